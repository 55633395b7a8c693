//! The plugin's keys.
use crate::ingress::Policy;
use cni_conf::Error;
use plugin::Call;

#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    backend: String,
    iptables_admin_chain_name: String,
    firewalld_zone: String,
    ingress_policy: String,
}

/// What the plugin is to do.
#[derive(Debug, PartialEq)]
pub(crate) struct Conf {
    /// "iptables", "firewalld", or anything else to choose by what runs
    pub(crate) backend: String,
    pub(crate) admin_chain: String,
    pub(crate) zone: String,
    pub(crate) policy: Policy,
}

impl Default for Conf {
    fn default() -> Self {
        Conf {
            backend: String::new(),
            admin_chain: shared_names::firewall::ADMIN_CHAIN.into(),
            zone: "trusted".into(),
            policy: Policy::Open,
        }
    }
}

impl Conf {
    pub(crate) fn read(call: &Call) -> Result<Conf, Error> {
        let keys: Keys = call.conf().map_err(|error| Error::internal(error.msg))?;
        Conf::of(keys)
    }

    fn of(keys: Keys) -> Result<Conf, Error> {
        let default = Conf::default();
        let or = |value: String, default| if value.is_empty() { default } else { value };
        let admin_chain = or(keys.iptables_admin_chain_name, default.admin_chain);
        check_chain(&admin_chain)?;
        Ok(Conf {
            backend: keys.backend,
            admin_chain,
            zone: or(keys.firewalld_zone, default.zone),
            policy: keys.ingress_policy.parse()?,
        })
    }
}

/// At most 28 bytes (XT_EXTENSION_MAXNAMELEN less the NUL).
fn check_chain(name: &str) -> Result<(), Error> {
    match name.len() <= 28 && is_plain(name) {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "invalid iptablesAdminChainName {name:?}"
        ))),
    }
}

/// A name that stands in a line for iptables-restore has nothing in it that could be taken for something else.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    !name.starts_with(['-', '!', '#', ':']) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Conf, String> {
        let keys = go_compat::json::from_slice(json.as_bytes()).unwrap();
        Conf::of(keys).map_err(|error| error.msg)
    }

    #[test]
    fn defaults() {
        assert_eq!(read("{}"), Ok(Conf::default()));
        let conf = read(
            r#"{"backend":"iptables","iptablesAdminChainName":"MINE","firewalldZone":"public","ingressPolicy":"isolated"}"#,
        )
        .unwrap();
        assert_eq!(
            (conf.admin_chain.as_str(), conf.zone.as_str()),
            ("MINE", "public")
        );
        assert_eq!(conf.policy, Policy::Isolated);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(
            read(r#"{"ingressPolicy":"closed"}"#),
            Err(r#"unknown ingress policy: "closed""#.into())
        );
        for name in ["a b", "-A", "x\ny", "\"", &"n".repeat(29)] {
            let json = serde_json::json!({"iptablesAdminChainName": name}).to_string();
            assert!(
                read(&json)
                    .unwrap_err()
                    .starts_with("invalid iptablesAdminChainName")
            );
        }
    }
}
