//! Who may open connections to a container: `ingressPolicy`. The rules are a bridge's, not a container's, and stay: others use
//! them too.
use crate::conf::is_plain;
use cni_conf::{AddResult, Error};
use shared_names::firewall::{
    ISOLATION_STAGE_1_CHAIN as STAGE_1, ISOLATION_STAGE_2_CHAIN as STAGE_2,
};
use std::str::FromStr;

/// The policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// everybody
    Open,
    /// those on the same bridge
    SameBridge,
    /// nobody
    Isolated,
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Policy, Error> {
        match text {
            "" | "open" => Ok(Policy::Open),
            "same-bridge" => Ok(Policy::SameBridge),
            "isolated" => Ok(Policy::Isolated),
            _ => Err(Error::internal(format!("unknown ingress policy: {text:?}"))),
        }
    }
}

impl Policy {
    fn name(self) -> &'static str {
        match self {
            Policy::Open => "open",
            Policy::SameBridge => "same-bridge",
            Policy::Isolated => "isolated",
        }
    }

    /// The bridge that the policy is about: the first interface of the result. None if everything is open.
    pub(crate) fn bridge(self, result: &AddResult) -> Result<Option<&str>, Error> {
        if self == Policy::Open {
            return Ok(None);
        }
        match result.interfaces.first() {
            None => Err(Error::internal(format!(
                "interface needs to be set for ingress policy {:?}, make sure to chain \"firewall\" plugin with \"bridge\"",
                self.name()
            ))),
            Some(first) if first.name.is_empty() => Err(Error::internal("got empty bridge name")),
            Some(first) if !is_plain(&first.name) => Err(Error::internal(format!(
                "invalid bridge name {:?}",
                first.name
            ))),
            Some(first) => Ok(Some(&first.name)),
        }
    }

    /// The rules, each with its chain and where in it a missing one is put, in the order in which upstream puts them.
    pub(crate) fn rules(self, bridge: &str) -> Vec<Placed> {
        let comment = |policy: &str| {
            format!("-m comment --comment \"CNI firewall plugin rules (ingressPolicy: {policy})\"")
        };
        let of_policy = comment(self.name());
        let of_both = comment("same-bridge|isolated");
        let first = |chain, rule| Placed {
            chain,
            rule,
            first: true,
        };
        let last = |chain, rule| Placed {
            chain,
            rule,
            first: false,
        };
        let mut rules = vec![
            first("FORWARD", format!("{of_both} -j {STAGE_1}")),
            first(
                STAGE_1,
                format!("-i {bridge} ! -o {bridge} {of_policy} -j {STAGE_2}"),
            ),
        ];
        if self == Policy::Isolated {
            rules.push(first(
                STAGE_1,
                format!("-i {bridge} -o {bridge} {of_policy} -j DROP"),
            ));
        }
        rules.push(last(STAGE_1, format!("{of_both} -j RETURN")));
        rules.push(first(STAGE_2, format!("-o {bridge} {of_both} -j DROP")));
        rules.push(last(STAGE_2, format!("{of_both} -j RETURN")));
        rules
    }
}

/// A rule in the words of iptables-save, without `-A CHAIN`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    pub(crate) chain: &'static str,
    pub(crate) rule: String,
    /// at the head of the chain, else at its end
    pub(crate) first: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_conf::Interface;

    #[test]
    fn rules_are_about_the_bridge() {
        let result = |name: &str| AddResult {
            interfaces: vec![Interface {
                name: name.into(),
                ..Interface::default()
            }],
            ..AddResult::default()
        };
        assert_eq!(Policy::Open.bridge(&AddResult::default()), Ok(None));
        assert_eq!(Policy::Isolated.bridge(&result("cni0")), Ok(Some("cni0")));
        assert_eq!(
            Policy::Isolated.bridge(&result("")).unwrap_err().msg,
            "got empty bridge name"
        );
        for name in ["a b", "a\"b", "-j", "a\nb"] {
            assert!(Policy::SameBridge.bridge(&result(name)).is_err());
        }
        let error = Policy::SameBridge
            .bridge(&AddResult::default())
            .unwrap_err();
        assert!(
            error.msg.contains("ingress policy \"same-bridge\""),
            "{error}"
        );
        assert_eq!(
            Policy::SameBridge.rules("cni0").len() + 1,
            Policy::Isolated.rules("cni0").len()
        );
    }
}
