//! The plugin's own keys, checked as upstream does and with its messages.
use crate::forward::{Forward, Protocol};
use cni_conf::{AddResult, Error};
use go_compat::{cidr, json};
use plugin::Call;
use serde::Deserialize;
use std::net::IpAddr;

/// The keys as they stand in the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Keys {
    backend: Option<String>,
    snat: Option<bool>,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
    #[serde(rename = "masqAll")]
    masq_all: bool,
    #[serde(rename = "markMasqBit")]
    mark_masq_bit: Option<i64>,
    #[serde(rename = "externalSetMarkChain")]
    external_set_mark_chain: Option<String>,
    #[serde(rename = "runtimeConfig")]
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    #[serde(rename = "portMappings")]
    port_mappings: Option<Vec<PortMapping>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PortMapping {
    #[serde(rename = "hostPort")]
    host_port: i64,
    #[serde(rename = "containerPort")]
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

/// Which packet filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Iptables,
    Nftables,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Iptables => "iptables",
            Backend::Nftables => "nftables",
        }
    }
}

/// Who puts the mark that asks for masquerading (iptables).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// our own chain, this bit
    Bit(u8),
    /// somebody else's chain
    Chain(String),
}

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conf {
    /// None: not asked for
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
    /// The configuration of ADD and CHECK.
    pub(crate) fn read(call: &Call) -> Result<Conf, Error> {
        Conf::parse(&call.config)
            .map_err(|why| Error::internal(format!("failed to parse config: {why}")))
    }

    pub(crate) fn parse(config: &[u8]) -> Result<Conf, String> {
        let keys: Keys = json::from_slice(config)
            .map_err(|error| format!("failed to parse network configuration: {error}"))?;
        Conf::check(&keys)
    }

    fn check(keys: &Keys) -> Result<Conf, String> {
        let mark = match (keys.mark_masq_bit, &keys.external_set_mark_chain) {
            (Some(_), Some(_)) => {
                return Err("Cannot specify externalSetMarkChain and markMasqBit".into());
            }
            (None, Some(chain)) => Mark::Chain(chain.clone()),
            (bit, None) => match u8::try_from(bit.unwrap_or(13)) {
                Ok(bit) if bit < 32 => Mark::Bit(bit),
                _ => return Err("MasqMarkBit must be between 0 and 31".into()),
            },
        };
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let mut conf = Conf {
            backend: None,
            snat: keys.snat.unwrap_or(true),
            masq_all: keys.masq_all,
            mark,
            conditions_v4: list(&keys.conditions_v4),
            conditions_v6: list(&keys.conditions_v6),
            mappings: Vec::new(),
        };
        conf.backend = conf.backend(keys.backend.as_deref())?;
        for mapping in keys.runtime_config.port_mappings.iter().flatten() {
            conf.mappings.push(check_mapping(mapping)?);
        }
        Ok(conf)
    }

    /// What is asked for by name, else what the keys that only one back end has call for.
    fn backend(&self, asked: Option<&str>) -> Result<Option<Backend>, String> {
        let asked = match asked {
            None => None,
            Some("iptables") => Some(Backend::Iptables),
            Some("nftables") => Some(Backend::Nftables),
            Some(other) => return Err(format!("unrecognized backend {other:?}")),
        };
        let mut iptables_keys = Vec::new();
        let mut nftables_keys = Vec::new();
        if matches!(self.mark, Mark::Chain(_)) {
            iptables_keys.push("externalSetMarkChain");
        }
        for (key, conditions) in [
            ("conditionsV4", &self.conditions_v4),
            ("conditionsV6", &self.conditions_v6),
        ] {
            match conditions.first().and_then(|first| first.chars().next()) {
                None => {}
                Some('-' | '!') => iptables_keys.push(key),
                Some(_) => nftables_keys.push(key),
            }
        }
        let foreign = |asked: Backend, other: Backend, keys: &[&str]| {
            let (asked, other) = (asked.name(), other.name());
            Err(format!(
                "{asked} backend was requested but configuration contains {other}-specific options [{}]",
                keys.join(" ")
            ))
        };
        use Backend::{Iptables, Nftables};
        match asked {
            Some(Iptables) if !nftables_keys.is_empty() => {
                foreign(Iptables, Nftables, &nftables_keys)
            }
            Some(Nftables) if !iptables_keys.is_empty() => {
                foreign(Nftables, Iptables, &iptables_keys)
            }
            None if !iptables_keys.is_empty() && !nftables_keys.is_empty() => {
                foreign(Iptables, Nftables, &nftables_keys)
            }
            None if !iptables_keys.is_empty() => Ok(Some(Iptables)),
            None if !nftables_keys.is_empty() => Ok(Some(Nftables)),
            asked => Ok(asked),
        }
    }

    /// Is anything to be mapped at all?
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

    /// The host's ports of all mappings, those of the other family's addresses too.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let mappings = self.mappings.iter();
        mappings.map(|mapping| (mapping.protocol, mapping.host_port))
    }

    /// What leads to `container`: mappings of host addresses of the other family are left out, of a key that is given twice
    /// the first counts, and an unspecified host address is none.
    pub(crate) fn forwards(&self, container: IpAddr) -> Vec<Forward> {
        let mut forwards: Vec<Forward> = Vec::new();
        for mapping in &self.mappings {
            if mapping
                .host_ip
                .is_some_and(|ip| ip.is_ipv6() != container.is_ipv6())
            {
                continue;
            }
            let forward = Forward {
                protocol: mapping.protocol,
                host_ip: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
                host_port: mapping.host_port,
                container,
                container_port: mapping.container_port,
            };
            if !forwards.iter().any(|other| other.same_host_side(&forward)) {
                forwards.push(forward);
            }
        }
        forwards
    }
}

fn check_mapping(mapping: &PortMapping) -> Result<Mapping, String> {
    let port = |number: i64| u16::try_from(number).ok().filter(|number| *number > 0);
    let container_port = port(mapping.container_port)
        .ok_or_else(|| format!("Invalid container port number: {}", mapping.container_port))?;
    let host_port = port(mapping.host_port)
        .ok_or_else(|| format!("Invalid host port number: {}", mapping.host_port))?;
    let protocol = Protocol::parse(&mapping.protocol).ok_or_else(|| {
        format!(
            "Invalid protocol {:?} of host port {host_port} (known are {})",
            mapping.protocol,
            Protocol::ALL.map(Protocol::name).join(", ")
        )
    })?;
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(
            cidr::parse_ip(text).map_err(|why| format!("host IP of port {host_port}: {why}"))?,
        ),
    };
    Ok(Mapping {
        protocol,
        host_ip,
        host_port,
        container_port,
    })
}

/// What DEL can know: it must clean up whatever the configuration has become since ADD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hints {
    /// The runtime says that there are no mappings; if it says nothing, there may be some.
    pub(crate) none: bool,
    /// the iptables back end is asked for
    pub(crate) iptables: bool,
}

impl Hints {
    pub(crate) fn read(call: &Call) -> Hints {
        // what cannot be read tells nothing
        let keys: Keys = call.conf().unwrap_or_default();
        // a runtime that passes the capability on passes an empty list (or null) for a pod without ports
        let passed = serde_json::from_slice::<serde_json::Value>(&call.config)
            .ok()
            .is_some_and(|conf| conf["runtimeConfig"].get("portMappings").is_some());
        let mappings = keys.runtime_config.port_mappings;
        Hints {
            none: passed && mappings.is_none_or(|list| list.is_empty()),
            iptables: keys.backend.as_deref() == Some("iptables"),
        }
    }
}

/// The container's first address of each family: of interface `ifname` in a sandbox, or one that belongs to no interface.
pub(crate) fn container_addresses(result: &AddResult, ifname: &str) -> Vec<ipnetwork::IpNetwork> {
    let of_container = |index: Option<usize>| {
        index
            .and_then(|index| result.interfaces.get(index))
            .is_none_or(|interface| interface.name == ifname && !interface.sandbox.is_empty())
    };
    let first = |ipv6: bool| {
        result
            .ips
            .iter()
            .find(|ip| ip.address.is_ipv6() == ipv6 && of_container(ip.interface))
            .map(|ip| ip.address)
    };
    [first(false), first(true)].into_iter().flatten().collect()
}
