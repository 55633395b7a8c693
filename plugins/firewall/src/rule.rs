//! Rules of the filter table in the form of iptables-save.

use shared_names::firewall::FORWARD_CHAIN;
use std::net::IpAddr;

/// A rule and the place where it is added if it is missing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) chain: &'static str,
    /// without `-A CHAIN`
    pub(crate) text: String,
    /// at the head of the chain, else at its end
    first: bool,
}

impl Rule {
    /// Added at the head of the chain.
    pub(crate) fn first(chain: &'static str, text: String) -> Rule {
        Rule {
            chain,
            text,
            first: true,
        }
    }

    /// Added at the end of the chain.
    pub(crate) fn last(chain: &'static str, text: String) -> Rule {
        Rule {
            chain,
            text,
            first: false,
        }
    }

    /// As iptables-save prints it.
    pub(crate) fn saved(&self) -> String {
        format!("-A {} {}", self.chain, self.text)
    }

    /// The line for iptables-restore that adds it.
    pub(crate) fn addition(&self) -> String {
        let command = if self.first { "-I" } else { "-A" };
        format!("{command} {} {}", self.chain, self.text)
    }

    /// The user-defined chain that the rule jumps to.
    pub(crate) fn target_chain(&self) -> Option<&str> {
        let (_, target) = self.text.rsplit_once("-j ")?;
        (!matches!(target, "ACCEPT" | "DROP" | "RETURN")).then_some(target)
    }
}

/// The rules that accept the addresses' traffic, in upstream's order.
pub(crate) fn allowing(admin_chain: &str, ips: &[IpAddr]) -> Vec<Rule> {
    let jump = |chain, comment: &str, to: &str| {
        Rule::first(chain, format!("-m comment --comment \"{comment}\" -j {to}"))
    };
    let mut rules = vec![
        jump("FORWARD", "CNI firewall plugin rules", FORWARD_CHAIN),
        jump(
            FORWARD_CHAIN,
            "CNI firewall plugin admin overrides",
            admin_chain,
        ),
    ];
    rules.extend(of_addresses(ips));
    rules
}

/// The rules of each address, which DEL removes.
pub(crate) fn of_addresses(ips: &[IpAddr]) -> impl Iterator<Item = Rule> {
    ips.iter().flat_map(|ip| {
        let host = go_compat::cidr::host(*ip);
        [
            format!("-d {host} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            format!("-s {host} -j ACCEPT"),
        ]
        .map(|text| Rule::last(FORWARD_CHAIN, text))
    })
}

/// True if the name is one word for iptables-restore and no option, so that it cannot change the
/// meaning of a line.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    !name.starts_with(['-', '!', '#', ':']) && name.bytes().all(plain)
}
