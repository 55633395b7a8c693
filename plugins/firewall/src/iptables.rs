//! iptables' filter table: upstream's chains and rules. One look and one change an ADD, whatever has to be done.
use crate::ingress::{Placed, Policy};
use cni_conf::Error;
use packet_filter::{
    Nft,
    iptables::{Iptables, Saved},
};
use shared_names::firewall::{FORWARD_CHAIN as CHAIN, IPTABLES_TABLE as TABLE};
use std::net::IpAddr;

/// How often a change is planned anew because somebody else changed the table in between.
const TRIES: u32 = 5;

/// The table of one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    ipv6: bool,
}

impl Filter {
    /// Calls `work` with the table of each family that is among the addresses, and those of that family.
    pub(crate) fn each(
        ips: &[IpAddr],
        work: impl Fn(Filter, &[IpAddr]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for ipv6 in [false, true] {
            let of_family: Vec<_> = ips
                .iter()
                .copied()
                .filter(|ip| ip.is_ipv6() == ipv6)
                .collect();
            if !of_family.is_empty() {
                work(Filter { ipv6 }, &of_family)?;
            }
        }
        Ok(())
    }

    /// The programs are there.
    pub(crate) fn is_usable() -> Result<(), Error> {
        match Iptables::of(false).is_installed() {
            true => Ok(()),
            false => Err(Error::internal(
                "iptables-restore is not in PATH: install iptables, or set \"backend\": \"firewalld\"",
            )),
        }
    }

    /// The chains, the jumps to them, and the addresses' rules, as far as they are not there.
    pub(crate) fn allow(self, admin_chain: &str, ips: &[IpAddr]) -> Result<(), Error> {
        self.update(|saved| missing(saved, &wanted(admin_chain, ips)))
    }

    /// Takes the addresses' rules away, each as often as it is there. Without a process where the chain cannot be there.
    pub(crate) fn disallow(self, ips: &[IpAddr]) -> Result<(), Error> {
        let mut nft = Nft::open().ok();
        if !Iptables::of(self.ipv6).may_have_chain(nft.as_mut(), TABLE, CHAIN) {
            return Ok(());
        }
        let rules: Vec<_> = ips
            .iter()
            .flat_map(|ip| of_address(*ip))
            .map(|rule| rule.saved())
            .collect();
        self.update(|saved| {
            let ours = saved.rules.iter().filter(|line| rules.contains(line));
            ours.map(|line| line.replacen("-A", "-D", 1)).collect()
        })
    }

    /// The policy's rules, as far as they are not there.
    pub(crate) fn isolate(self, bridge: &str, policy: Policy) -> Result<(), Error> {
        self.update(|saved| missing(saved, &policy.rules(bridge)))
    }

    /// Everything that `allow` sees to.
    pub(crate) fn check(self, admin_chain: &str, ips: &[IpAddr]) -> Result<(), Error> {
        self.expect(&wanted(admin_chain, ips))
    }

    /// Everything that `isolate` sees to.
    pub(crate) fn check_isolation(self, bridge: &str, policy: Policy) -> Result<(), Error> {
        self.expect(&policy.rules(bridge))
    }

    fn expect(self, rules: &[Placed]) -> Result<(), Error> {
        let saved = self.save()?;
        match rules
            .iter()
            .find(|rule| !saved.rules.contains(&rule.saved()))
        {
            None => Ok(()),
            Some(rule) => {
                let chain = match rule.rule.contains("--comment") {
                    true => format!("{} ", rule.chain),
                    false => String::new(),
                };
                let words = rule.rule.replace('"', "");
                Err(Error::internal(format!(
                    "expected {chain}rule [{words}] not found"
                )))
            }
        }
    }

    fn save(self) -> Result<Saved, Error> {
        Iptables::of(self.ipv6).save(TABLE).map_err(Error::internal)
    }

    /// Looks, plans and changes. A change that fails because somebody else was faster is planned again.
    fn update(self, plan: impl Fn(&Saved) -> Vec<String>) -> Result<(), Error> {
        let mut lines = plan(&self.save()?);
        for _ in 1..TRIES {
            let Err(error) = Iptables::of(self.ipv6).restore(TABLE, &lines) else {
                return Ok(());
            };
            let again = plan(&self.save()?);
            if again == lines {
                return Err(Error::internal(error));
            }
            lines = again;
        }
        Iptables::of(self.ipv6)
            .restore(TABLE, &lines)
            .map_err(Error::internal)
    }
}

/// What lets the addresses' traffic through, in the order in which upstream puts it.
fn wanted(admin_chain: &str, ips: &[IpAddr]) -> Vec<Placed> {
    let jump = |chain, comment: &str, to: &str| Placed {
        chain,
        rule: format!("-m comment --comment \"{comment}\" -j {to}"),
        first: true,
    };
    let mut rules = vec![
        jump("FORWARD", "CNI firewall plugin rules", CHAIN),
        jump(CHAIN, "CNI firewall plugin admin overrides", admin_chain),
    ];
    rules.extend(ips.iter().flat_map(|ip| of_address(*ip)));
    rules
}

fn of_address(ip: IpAddr) -> [Placed; 2] {
    let host = go_compat::cidr::host(ip);
    [
        format!("-d {host} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        format!("-s {host} -j ACCEPT"),
    ]
    .map(|rule| Placed {
        chain: CHAIN,
        rule,
        first: false,
    })
}

impl Placed {
    /// As iptables-save prints it.
    fn saved(&self) -> String {
        format!("-A {} {}", self.chain, self.rule)
    }

    /// Where it jumps to, if that is a chain that somebody has to make.
    fn jumps_to(&self) -> Option<&str> {
        let (_, target) = self.rule.rsplit_once("-j ")?;
        (!matches!(target, "ACCEPT" | "DROP" | "RETURN")).then_some(target)
    }
}

/// Lines that put what is missing in its place. Chains are made with -N, which fails where another process made them meanwhile:
/// the form `:CHAIN` would empty them.
fn missing(saved: &Saved, wanted: &[Placed]) -> Vec<String> {
    let mut made: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for rule in wanted {
        for chain in [Some(rule.chain), rule.jumps_to()].into_iter().flatten() {
            let known =
                chain == "FORWARD" || saved.chains.iter().chain(&made).any(|name| name == chain);
            if !known {
                made.push(chain.to_owned());
            }
        }
        if !saved.rules.contains(&rule.saved()) {
            let how = if rule.first { "-I" } else { "-A" };
            lines.push(format!("{how} {} {}", rule.chain, rule.rule));
        }
    }
    let chains = made.iter().map(|chain| format!("-N {chain}"));
    chains.chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_fresh_table_gets_everything() {
        let lines = missing(&Saved::default(), &wanted("CNI-ADMIN", &[ip("10.0.0.2")]));
        assert_eq!(
            lines,
            [
                "-N CNI-FORWARD",
                "-N CNI-ADMIN",
                "-I FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
                "-I CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
                "-A CNI-FORWARD -d 10.0.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-A CNI-FORWARD -s 10.0.0.2/32 -j ACCEPT",
            ]
        );
        let of_v6 = wanted("CNI-ADMIN", &[ip("fd00::2")]);
        assert_eq!(of_v6[3].rule, "-s fd00::2/128 -j ACCEPT");
    }

    #[test]
    fn what_is_there_is_not_put_again() {
        let everything = wanted("CNI-ADMIN", &[ip("10.0.0.2")]);
        let saved = Saved {
            chains: ["FORWARD", "CNI-FORWARD", "CNI-ADMIN"]
                .map(String::from)
                .into(),
            rules: everything.iter().map(Placed::saved).collect(),
        };
        assert!(missing(&saved, &everything).is_empty());
        let one_more = wanted("CNI-ADMIN", &[ip("10.0.0.2"), ip("10.0.0.3")]);
        assert_eq!(missing(&saved, &one_more).len(), 2);
        let mut without_chain = saved;
        without_chain.chains.retain(|chain| chain != "CNI-ADMIN");
        assert_eq!(missing(&without_chain, &everything), ["-N CNI-ADMIN"]);
    }

    #[test]
    fn isolation_makes_its_chains() {
        let lines = missing(&Saved::default(), &Policy::Isolated.rules("cni0"));
        let policy = "-m comment --comment \"CNI firewall plugin rules (ingressPolicy: isolated)\"";
        let both = "-m comment --comment \"CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)\"";
        let expected = [
            "-N CNI-ISOLATION-STAGE-1".to_owned(),
            "-N CNI-ISOLATION-STAGE-2".to_owned(),
            format!("-I FORWARD {both} -j CNI-ISOLATION-STAGE-1"),
            format!("-I CNI-ISOLATION-STAGE-1 -i cni0 ! -o cni0 {policy} -j CNI-ISOLATION-STAGE-2"),
            format!("-I CNI-ISOLATION-STAGE-1 -i cni0 -o cni0 {policy} -j DROP"),
            format!("-A CNI-ISOLATION-STAGE-1 {both} -j RETURN"),
            format!("-I CNI-ISOLATION-STAGE-2 -o cni0 {both} -j DROP"),
            format!("-A CNI-ISOLATION-STAGE-2 {both} -j RETURN"),
        ];
        assert_eq!(lines, expected);
    }
}
