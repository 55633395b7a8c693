//! The plugin's own keys. Checks and messages are upstream's.

use crate::{
    forward::{Forward, Protocol},
    iptables_rules::NAME_LEN,
};
use go_compat::{
    cidr,
    json::{self, Document},
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, fmt, net::IpAddr};

/// `markMasqBit` without the key, as upstream.
const DEFAULT_MARK_BIT: i64 = 13;

/// The keys as they stand in the configuration.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    backend: Option<String>,
    snat: Option<bool>,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    runtime_config: RuntimeConfig,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Vec<PortMapping>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PortMapping {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    /// A key has the wrong type.
    #[error("failed to parse network configuration: {0}")]
    Json(#[from] json::Error),
    /// Two keys name the mark that asks for masquerading.
    #[error("Cannot specify externalSetMarkChain and markMasqBit")]
    TwoMarks,
    /// `externalSetMarkChain` is not the name of a chain. It becomes a part of a line.
    #[error("externalSetMarkChain {0:?} is not the name of a chain")]
    MarkChain(String),
    /// `markMasqBit` is no bit of a mark.
    #[error("MasqMarkBit must be between 0 and 31")]
    MarkBit,
    /// `backend` is unknown.
    #[error("unrecognized backend {0:?}")]
    Backend(String),
    /// A key only works with the other back end.
    #[error(
        "{asked} backend was requested but configuration contains {other}-specific options [{}]",
        keys.join(" ")
    )]
    OtherBackendsKeys {
        asked: Backend,
        other: Backend,
        keys: Vec<&'static str>,
    },
    /// A condition would end its line, or the text, for the program that reads it.
    #[error("{key}: {condition:?} contains a line break or a zero byte")]
    Condition {
        key: &'static str,
        condition: String,
    },
    /// A port is not in 1..=65535.
    #[error("Invalid {side} port number: {number}")]
    Port { side: &'static str, number: i64 },
    /// A protocol has no ports.
    #[error(
        "Invalid protocol {protocol:?} of host port {host_port} (known are {})",
        Protocol::ALL.map(Protocol::name).join(", ")
    )]
    Protocol { protocol: String, host_port: u16 },
    /// `hostIP` is no address.
    #[error("host IP of port {host_port}: {source}")]
    HostIp {
        host_port: u16,
        source: cidr::ParseError,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Iptables,
    Nftables,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Iptables => "iptables",
            Backend::Nftables => "nftables",
        })
    }
}

/// What sets the mark that asks for masquerading (iptables).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// portmap's own chain sets this bit
    Bit(u8),
    /// a chain that another program maintains
    Chain(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conf {
    /// None: the configuration names none and no key implies one
    pub(crate) backend: Option<Backend>,
    pub(crate) snat: bool,
    pub(crate) masq_all: bool,
    pub(crate) mark: Mark,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
    mappings: Vec<Mapping>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    protocol: Protocol,
    host_ip: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
}

impl Conf {
    pub(crate) fn read(config: &Document) -> Result<Conf, Invalid> {
        let keys: Keys = config.decode()?;
        check_conditions("conditionsV4", &keys.conditions_v4)?;
        check_conditions("conditionsV6", &keys.conditions_v6)?;
        Ok(Conf {
            mark: keys.mark()?,
            backend: keys.backend()?,
            mappings: (keys.runtime_config.port_mappings.iter())
                .map(PortMapping::check)
                .collect::<Result<_, _>>()?,
            snat: keys.snat.unwrap_or(true),
            masq_all: keys.masq_all,
            conditions_v4: keys.conditions_v4,
            conditions_v6: keys.conditions_v6,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    pub(crate) fn conditions(&self, ipv6: bool) -> &[String] {
        if ipv6 {
            &self.conditions_v6
        } else {
            &self.conditions_v4
        }
    }

    /// Host ports of all mappings, also of those with a host address of the other family.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let mappings = self.mappings.iter();
        mappings.map(|mapping| (mapping.protocol, mapping.host_port))
    }

    /// The mappings to `container`. Mappings with a host address of the other family are left out,
    /// and an unspecified host address means any. Of several with the same host side the first
    /// counts, as upstream: its rules of the others come later and never match.
    pub(crate) fn forwards(&self, container: IpAddr) -> Vec<Forward> {
        let mut forwards: Vec<Forward> = Vec::new();
        for mapping in &self.mappings {
            if (mapping.host_ip).is_some_and(|ip| ip.is_ipv6() != container.is_ipv6()) {
                continue;
            }
            let forward = Forward {
                protocol: mapping.protocol,
                host_ip: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
                host_port: mapping.host_port,
                container,
                container_port: mapping.container_port,
            };
            if !(forwards.iter()).any(|other| other.host_side() == forward.host_side()) {
                forwards.push(forward);
            }
        }
        forwards
    }
}

fn check_conditions(key: &'static str, conditions: &[String]) -> Result<(), Invalid> {
    let breaks = |condition: &&String| condition.contains(['\n', '\r', '\0']);
    match conditions.iter().find(breaks) {
        None => Ok(()),
        Some(condition) => Err(Invalid::Condition {
            key,
            condition: condition.clone(),
        }),
    }
}

/// True for a name that iptables accepts, and that is one word for iptables-restore.
fn is_chain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
    let starts_plain = !name.starts_with(['-', '!', '#', ':']);
    (1..=NAME_LEN).contains(&name.len()) && starts_plain && name.bytes().all(is_plain)
}

impl Keys {
    fn mark(&self) -> Result<Mark, Invalid> {
        match (self.mark_masq_bit, &self.external_set_mark_chain) {
            (Some(_), Some(_)) => Err(Invalid::TwoMarks),
            (None, Some(chain)) if is_chain_name(chain) => Ok(Mark::Chain(chain.clone())),
            (None, Some(chain)) => Err(Invalid::MarkChain(chain.clone())),
            (bit, None) => match u8::try_from(bit.unwrap_or(DEFAULT_MARK_BIT)) {
                Ok(bit) if u32::from(bit) < u32::BITS => Ok(Mark::Bit(bit)),
                _ => Err(Invalid::MarkBit),
            },
        }
    }

    /// The back end that `backend` names, else the one that the other keys imply.
    fn backend(&self) -> Result<Option<Backend>, Invalid> {
        use Backend::{Iptables, Nftables};
        let asked = match self.backend.as_deref() {
            None => None,
            Some("iptables") => Some(Iptables),
            Some("nftables") => Some(Nftables),
            Some(other) => return Err(Invalid::Backend(other.to_owned())),
        };
        let (iptables_keys, nftables_keys) = self.keys_of_one_backend();
        let implied = match (iptables_keys.is_empty(), nftables_keys.is_empty()) {
            (false, _) => Some(Iptables),
            (true, false) => Some(Nftables),
            (true, true) => None,
        };
        let chosen = asked.or(implied);
        let (other, keys) = match chosen {
            Some(Iptables) => (Nftables, nftables_keys),
            Some(Nftables) => (Iptables, iptables_keys),
            None => return Ok(None),
        };
        match chosen {
            Some(asked) if !keys.is_empty() => {
                Err(Invalid::OtherBackendsKeys { asked, other, keys })
            }
            _ => Ok(chosen),
        }
    }

    /// The keys that only iptables understands, and those that only nftables understands.
    fn keys_of_one_backend(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut iptables, mut nftables) = (Vec::new(), Vec::new());
        if self.external_set_mark_chain.is_some() {
            iptables.push("externalSetMarkChain");
        }
        for (key, conditions) in [
            ("conditionsV4", &self.conditions_v4),
            ("conditionsV6", &self.conditions_v6),
        ] {
            match conditions.first().and_then(|first| first.chars().next()) {
                None => {}
                Some('-' | '!') => iptables.push(key),
                Some(_) => nftables.push(key),
            }
        }
        (iptables, nftables)
    }
}

impl PortMapping {
    fn check(&self) -> Result<Mapping, Invalid> {
        let port = |side: &'static str, number: i64| match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(Invalid::Port { side, number }),
        };
        let container_port = port("container", self.container_port)?;
        let host_port = port("host", self.host_port)?;
        let protocol = Protocol::parse(&self.protocol).ok_or_else(|| Invalid::Protocol {
            protocol: self.protocol.clone(),
            host_port,
        })?;
        let host_ip = match self.host_ip.as_str() {
            "" => None,
            text => {
                Some(cidr::parse_ip(text).map_err(|source| Invalid::HostIp { host_port, source })?)
            }
        };
        Ok(Mapping {
            protocol,
            host_ip,
            host_port,
            container_port,
        })
    }
}

/// True if the runtime passes the list of port mappings and it is empty (or null), as for a pod
/// without ports. Otherwise there may be mappings, whatever the rest of the configuration is by the
/// time of DEL.
pub(crate) fn excludes_mappings(config: &Document) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Keys {
        runtime_config: BTreeMap<String, Value>,
    }
    let keys: Keys = config.decode().unwrap_or_default();
    match keys.runtime_config.get("portMappings") {
        Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_chain_is_one_word() {
        let read = |chain: &str| {
            let text = serde_json::json!({ "externalSetMarkChain": chain }).to_string();
            Conf::read(&Document::parse(text.as_bytes()).unwrap())
        };
        let mark = read("KUBE-MARK-MASQ").map(|conf| conf.mark);
        assert_eq!(mark.ok(), Some(Mark::Chain("KUBE-MARK-MASQ".to_owned())));
        for chain in ["", "a b", "X\n-F", "-X", "\"x\"", &"x".repeat(29)] {
            let error = read(chain).unwrap_err().to_string();
            assert!(error.contains("externalSetMarkChain"), "{error}");
        }
    }

    #[test]
    fn only_an_empty_list_or_null_excludes_mappings() {
        let excludes = |text: &str| excludes_mappings(&Document::parse(text.as_bytes()).unwrap());
        assert!(excludes(r#"{"runtimeConfig":{"portMappings":[]}}"#));
        assert!(excludes(
            r#"{"runtimeConfig":{"portMappings":null},"snat":3}"#
        ));
        for text in [
            "{}",
            r#"{"runtimeConfig":null}"#,
            r#"{"runtimeConfig":3}"#,
            r#"{"runtimeConfig":{"portMappings":3}}"#,
            r#"{"runtimeConfig":{"portMappings":[{"hostPort":80}]},"snat":3}"#,
        ] {
            assert!(!excludes(text), "{text}");
        }
    }
}
