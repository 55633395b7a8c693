//! `ingressPolicy`: who may open connections to a container. The rules belong to a bridge, not to a
//! container, so they stay after DEL for the bridge's other containers.

use crate::{
    error::Failure,
    rule::{Rule, is_plain},
};
use cni_conf::AddResult;
use shared_names::firewall::{
    ISOLATION_STAGE_1_CHAIN as STAGE_1, ISOLATION_STAGE_2_CHAIN as STAGE_2,
};
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// any address
    Open,
    /// containers on the same bridge
    SameBridge,
    /// none
    Isolated,
}

impl FromStr for Policy {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Policy, Failure> {
        match text {
            "" | "open" => Ok(Policy::Open),
            "same-bridge" => Ok(Policy::SameBridge),
            "isolated" => Ok(Policy::Isolated),
            _ => Err(Failure::IngressPolicy(text.to_owned())),
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

    /// The bridge that the rules are for: the first interface of the result. None for `open`.
    pub(crate) fn bridge(self, result: &AddResult) -> Result<Option<&str>, Failure> {
        let policy = self.name();
        match (self, result.interfaces.first()) {
            (Policy::Open, _) => Ok(None),
            (_, None) => Err(Failure::NoInterface { policy }),
            (_, Some(bridge)) if bridge.name.is_empty() => Err(Failure::EmptyBridgeName),
            (_, Some(bridge)) if !is_plain(&bridge.name) => {
                Err(Failure::BridgeName(bridge.name.clone()))
            }
            (_, Some(bridge)) => Ok(Some(&bridge.name)),
        }
    }

    /// The rules in the order in which upstream adds them.
    pub(crate) fn rules(self, bridge: &str) -> Vec<Rule> {
        let comment = |policy: &str| {
            format!("-m comment --comment \"CNI firewall plugin rules (ingressPolicy: {policy})\"")
        };
        let own = comment(self.name());
        let both = comment("same-bridge|isolated");
        let leaving = format!("-i {bridge} ! -o {bridge} {own} -j {STAGE_2}");
        let within = format!("-i {bridge} -o {bridge} {own} -j DROP");
        let mut rules = vec![
            Rule::first("FORWARD", format!("{both} -j {STAGE_1}")),
            Rule::first(STAGE_1, leaving),
        ];
        if self == Policy::Isolated {
            rules.push(Rule::first(STAGE_1, within));
        }
        rules.extend([
            Rule::last(STAGE_1, format!("{both} -j RETURN")),
            Rule::first(STAGE_2, format!("-o {bridge} {both} -j DROP")),
            Rule::last(STAGE_2, format!("{both} -j RETURN")),
        ]);
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_conf::Interface;

    #[test]
    fn policy_needs_a_plain_bridge_name_unless_open() {
        let result = |name: &str| AddResult {
            interfaces: vec![Interface {
                name: name.into(),
                ..Interface::default()
            }],
            ..AddResult::default()
        };
        let none = AddResult::default();
        assert_eq!(Policy::Open.bridge(&none).unwrap(), None);
        assert_eq!(
            Policy::Isolated.bridge(&result("cni0")).unwrap(),
            Some("cni0")
        );
        assert_eq!(
            Policy::Isolated
                .bridge(&result(""))
                .unwrap_err()
                .to_string(),
            "got empty bridge name"
        );
        for name in ["a b", "a\"b", "-j", "a\nb"] {
            assert!(Policy::SameBridge.bridge(&result(name)).is_err());
        }
        let error = Policy::SameBridge.bridge(&none).unwrap_err().to_string();
        assert!(error.contains("ingress policy \"same-bridge\""), "{error}");
        assert_eq!(
            Policy::SameBridge.rules("cni0").len() + 1,
            Policy::Isolated.rules("cni0").len()
        );
    }
}
