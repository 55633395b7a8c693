//! The plugin's keys.

use crate::{error::Failure, ingress::Policy, rule::is_plain};
use plugin::Call;
use shared_names::firewall::ADMIN_CHAIN;

/// Longest name of a chain, in bytes (XT_EXTENSION_MAXNAMELEN less the NUL).
const CHAIN_NAME_MAX: usize = 28;

#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    backend: String,
    iptables_admin_chain_name: String,
    firewalld_zone: String,
    ingress_policy: String,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Conf {
    /// "iptables", "firewalld", or anything else for firewalld if it runs
    pub(crate) backend: String,
    pub(crate) admin_chain: String,
    pub(crate) zone: String,
    pub(crate) policy: Policy,
}

impl Default for Conf {
    fn default() -> Self {
        Conf {
            backend: String::new(),
            admin_chain: ADMIN_CHAIN.into(),
            zone: "trusted".into(),
            policy: Policy::Open,
        }
    }
}

impl Conf {
    pub(crate) fn read(call: &Call) -> Result<Conf, Failure> {
        Conf::check(call.decode()?)
    }

    fn check(keys: Keys) -> Result<Conf, Failure> {
        let default = Conf::default();
        let or = |value: String, default| if value.is_empty() { default } else { value };
        let admin_chain = or(keys.iptables_admin_chain_name, default.admin_chain);
        if admin_chain.len() > CHAIN_NAME_MAX || !is_plain(&admin_chain) {
            return Err(Failure::AdminChain(admin_chain));
        }
        Ok(Conf {
            backend: keys.backend,
            admin_chain,
            zone: or(keys.firewalld_zone, default.zone),
            policy: keys.ingress_policy.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Conf, String> {
        let keys = go_compat::json::from_slice(json.as_bytes()).unwrap();
        Conf::check(keys).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_keys_have_defaults() {
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
    fn unknown_policy_and_invalid_chain_names_are_refused() {
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
