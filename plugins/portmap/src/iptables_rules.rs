//! The rules of the iptables back end as text: chains, names, comments and order are upstream's ("these names should never be
//! changed"), written as `iptables-save` prints them, so that what is there can be compared with what is wanted.
use crate::{
    conf::{Conf, Mark},
    forward::{Forward, Protocol},
    owner::Owner,
};
use ipnetwork::IpNetwork;
use packet_filter::iptables::Saved;
use sha2::{Digest, Sha512};
use std::{collections::BTreeMap, net::SocketAddr};

pub(crate) const TABLE: &str = "nat";
pub(crate) const DNAT: &str = "CNI-HOSTPORT-DNAT";
const MASQ: &str = "CNI-HOSTPORT-MASQ";
const SETMARK: &str = "CNI-HOSTPORT-SETMARK";
/// Of releases long gone.
const OLD_SNAT: &str = "CNI-HOSTPORT-SNAT";
const CONTAINER: &str = "CNI-DN-";
const OLD_CONTAINER: &str = "CNI-SN-";
/// A chain's name has 28 bytes.
const NAME_LEN: usize = 28;
/// Bytes of a comment that xt_comment holds.
const COMMENT_MAX: usize = 255;
/// Ports that one multiport match holds.
const PORTS_MAX: usize = 15;

fn container_chain(prefix: &str, owner: &Owner) -> String {
    let hash = Sha512::digest(format!("{}{}", owner.network, owner.container_id));
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{}", &hex[..NAME_LEN - prefix.len()])
}

/// The chain with a container's mappings.
pub(crate) fn chain(owner: &Owner) -> String {
    container_chain(CONTAINER, owner)
}

/// What all containers share: chains, and rules of these and of the built-in ones (true: at the head).
fn shared(conf: &Conf) -> (Vec<&'static str>, Vec<(bool, String)>) {
    let jump = |from: &str| format!("-A {from} -m addrtype --dst-type LOCAL -j {DNAT}");
    let mut chains = vec![DNAT];
    let mut rules = vec![(false, jump("PREROUTING")), (false, jump("OUTPUT"))];
    if let (true, Mark::Bit(bit)) = (conf.snat, &conf.mark) {
        chains.extend([SETMARK, MASQ]);
        let mark = format!("{:#x}/{0:#x}", 1u32 << bit);
        rules.extend([
            (
                true,
                format!(
                    "-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j {MASQ}"
                ),
            ),
            (
                false,
                format!(
                    "-A {SETMARK} -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark {mark}"
                ),
            ),
            (false, format!("-A {MASQ} -m mark --mark {mark} -j MASQUERADE")),
        ]);
    }
    (chains, rules)
}

fn comment(owner: &Owner) -> String {
    let mut text = format!(
        "dnat name: \"{}\" id: \"{}\"",
        owner.network, owner.container_id
    );
    // ids and names are ASCII
    text.truncate(COMMENT_MAX);
    format!("\"{}\"", text.replace('"', "\\\""))
}

/// Rules that lead to the container's chain, each in two parts: conditions go between. As upstream's, they also name ports
/// which only the other family has rules for.
fn entry_rules(owner: &Owner, conf: &Conf) -> Vec<(String, String)> {
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (protocol, port) in conf.host_ports() {
        let ports = ports.entry(protocol.name()).or_default();
        ports.push(port.to_string());
    }
    let comment = comment(owner);
    let mut rules = Vec::new();
    for (protocol, ports) in &ports {
        for ports in ports.chunks(PORTS_MAX) {
            rules.push((
                format!(
                    "-A {DNAT} -p {protocol} -m comment --comment {comment} -m multiport --dports {}",
                    ports.join(",")
                ),
                format!("-j {}", chain(owner)),
            ));
        }
    }
    rules
}

/// Rules of the container's chain: those that mark come before the one that ends it.
fn container_rules(
    owner: &Owner,
    conf: &Conf,
    forwards: &[Forward],
    address: IpNetwork,
) -> Vec<String> {
    let chain = chain(owner);
    let mark = match &conf.mark {
        Mark::Bit(_) => SETMARK,
        Mark::Chain(chain) => chain,
    };
    let subnet = format!("-s {}/{} ", address.network(), address.prefix());
    let sources = match (conf.snat, conf.masq_all, address.is_ipv4()) {
        (false, ..) => vec![],
        (true, true, _) => vec![String::new()],
        (true, false, true) => vec![subnet, "-s 127.0.0.1/32 ".to_owned()],
        (true, false, false) => vec![subnet],
    };
    let mut rules = Vec::new();
    for forward in forwards {
        let protocol = forward.protocol.name();
        let host = forward
            .host_ip
            .map(|ip| format!("-d {} ", IpNetwork::from(ip)))
            .unwrap_or_default();
        let port = format!("-p {protocol} -m {protocol} --dport {}", forward.host_port);
        for source in &sources {
            rules.push(format!("-A {chain} {source}{host}{port} -j {mark}"));
        }
        let target = SocketAddr::new(forward.container, forward.container_port);
        rules.push(format!(
            "-A {chain} {host}{port} -j DNAT --to-destination {target}"
        ));
    }
    rules
}

/// What makes the mappings out of what is there: the container's own are made anew, and others' of the same host port go.
pub(crate) fn additions(
    owner: &Owner,
    conf: &Conf,
    forwards: &[Forward],
    address: IpNetwork,
    saved: &Saved,
) -> Vec<String> {
    let own = chain(owner);
    let (chains, rules) = shared(conf);
    let mut lines = saved.removal(|chain| chain == own);
    lines.extend(evictions(forwards, &own, saved));
    for chain in chains {
        if !saved.chains.iter().any(|found| found == chain) {
            lines.push(format!("-N {chain}"));
        }
    }
    for (first, rule) in rules {
        if !saved.rules.contains(&rule) {
            lines.push(match (first, rule.strip_prefix("-A ")) {
                (true, Some(rest)) => format!("-I {rest}"),
                _ => rule,
            });
        }
    }
    lines.push(format!("-N {own}"));
    lines.extend(container_rules(owner, conf, forwards, address));
    let conditions = conf.conditions(address.is_ipv6()).join(" ");
    for (matches, jump) in entry_rules(owner, conf) {
        lines.push(match conditions.as_str() {
            "" => format!("{matches} {jump}"),
            conditions => format!("{matches} {conditions} {jump}"),
        });
    }
    lines
}

/// Other containers' rules for the same port of the host: the newest has it.
fn evictions(forwards: &[Forward], own: &str, saved: &Saved) -> Vec<String> {
    let taken = |rule: &&str| {
        let Some((chain, _)) = rule.split_once(' ') else {
            return false;
        };
        chain.starts_with(CONTAINER)
            && chain != own
            && host_side(rule).is_some_and(|(protocol, ip, port)| {
                forwards.iter().any(|forward| {
                    (forward.protocol, forward.host_ip, forward.host_port) == (protocol, ip, port)
                })
            })
    };
    let rules = saved
        .rules
        .iter()
        .filter_map(|line| line.strip_prefix("-A "));
    rules
        .filter(taken)
        .map(|rule| format!("-D {rule}"))
        .collect()
}

/// The value behind an option.
fn option<'r>(rule: &'r str, name: &str) -> Option<&'r str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == name)?;
    words.next()
}

fn host_side(rule: &str) -> Option<(Protocol, Option<std::net::IpAddr>, u16)> {
    let ip = match option(rule, "-d") {
        Some(net) => Some(net.parse::<IpNetwork>().ok()?.ip()),
        None => None,
    };
    let protocol = Protocol::parse(option(rule, "-p")?)?;
    Some((protocol, ip, option(rule, "--dport")?.parse().ok()?))
}

/// The mappings of some containers' chains.
pub(crate) fn forwards(saved: &Saved, chains: impl Fn(&str) -> bool) -> Vec<Forward> {
    let read = |line: &String| {
        let rule = line.strip_prefix("-A ")?;
        let (chain, _) = rule.split_once(' ')?;
        let target: SocketAddr = option(rule, "--to-destination")?.parse().ok()?;
        let (protocol, host_ip, host_port) = host_side(rule)?;
        chains(chain).then_some(Forward {
            protocol,
            host_ip,
            host_port,
            container: target.ip(),
            container_port: target.port(),
        })
    };
    saved.rules.iter().filter_map(read).collect()
}

/// A rule that is wanted and not there.
pub(crate) fn missing(
    owner: &Owner,
    conf: &Conf,
    forwards: &[Forward],
    address: IpNetwork,
    saved: &Saved,
) -> Option<String> {
    let (_, shared) = shared(conf);
    let entries = entry_rules(owner, conf);
    let unconditional = conf.conditions(address.is_ipv6()).is_empty();
    // conditions may be saved in other words than they were given
    let is_entry = |(matches, jump): &(String, String)| {
        saved.rules.iter().any(|rule| {
            rule.starts_with("-A CNI-HOSTPORT-DNAT ")
                && rule.ends_with(jump)
                && (!unconditional || *rule == format!("{matches} {jump}"))
        })
    };
    let rules = shared.into_iter().map(|(_, rule)| rule);
    rules
        .chain(container_rules(owner, conf, forwards, address))
        .find(|rule| !saved.rules.contains(rule))
        .or_else(|| {
            let (matches, jump) = entries.into_iter().find(|entry| !is_entry(entry))?;
            Some(format!("{matches} {jump}"))
        })
}

/// The container's chains, old ones too.
pub(crate) fn chains_of(owner: &Owner) -> [String; 2] {
    [CONTAINER, OLD_CONTAINER].map(|prefix| container_chain(prefix, owner))
}

/// Takes chains away with every rule that leads to them, and the old shared chain when nothing is left in it.
pub(crate) fn removals(saved: &Saved, gone: impl Fn(&str) -> bool) -> Vec<String> {
    let old = format!("-A {OLD_SNAT} ");
    let old_is_needed = saved
        .rules
        .iter()
        .any(|rule| rule.starts_with(&old) && !option(rule, "-j").is_some_and(&gone));
    saved.removal(|chain| gone(chain) || (chain == OLD_SNAT && !old_is_needed))
}

/// Chains of containers of this network, by the comments of the rules that lead there: (id, chain).
pub(crate) fn containers<'s>(saved: &'s Saved, network: &str) -> Vec<(String, &'s str)> {
    let start = format!("dnat name: \"{network}\" id: \"");
    let read = |line: &'s String| {
        let rule = line.strip_prefix("-A CNI-HOSTPORT-DNAT ")?;
        let (_, comment) = rule.split_once("--comment \"")?;
        let comment = unquoted(comment)?;
        // an id that was cut off names nobody
        let id = comment.strip_prefix(&start)?.strip_suffix('"')?;
        let (_, chain) = rule.rsplit_once(" -j ")?;
        Some((id.to_owned(), chain))
    };
    saved.rules.iter().filter_map(read).collect()
}

/// Up to the closing quote, as iptables-save quotes.
fn unquoted(text: &str) -> Option<String> {
    let mut inside = String::new();
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return Some(inside),
            '\\' => inside.push(letters.next()?),
            letter => inside.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn owner(id: &str) -> Owner {
        Owner {
            container_id: id.into(),
            ifname: "eth0".into(),
            network: "test".into(),
        }
    }

    fn saved(lines: &[String]) -> Saved {
        let mut saved = Saved::default();
        for line in lines {
            if let Some(chain) = line.strip_prefix("-N ") {
                saved.chains.push(chain.to_owned());
            } else if let Some(rule) = line.strip_prefix("-A ").or(line.strip_prefix("-I ")) {
                saved.rules.push(format!("-A {rule}"));
            }
        }
        saved
    }

    fn conf(keys: &str) -> Conf {
        Conf::parse(keys.as_bytes()).unwrap()
    }

    const TWO: &str = r#"{"runtimeConfig":{"portMappings":[
        {"hostPort":8080,"containerPort":80,"protocol":"tcp"},
        {"hostPort":8081,"containerPort":81,"protocol":"TCP","hostIP":"192.0.2.1"}]}}"#;

    fn plan(owner: &Owner, keys: &str, address: &str, saved: &Saved) -> Vec<String> {
        let (conf, address) = (conf(keys), address.parse::<IpNetwork>().unwrap());
        additions(owner, &conf, &conf.forwards(address.ip()), address, saved)
    }

    #[test]
    fn rules_are_upstreams() {
        let owner = owner(
            "icee6giejonei6sohng6ahngee7laquohquee9shiGo7fohferakah3Feiyoolu2pei7ciPhoh7shaoX6vai3vuf0ahfaeng8yohb9ceu0daez5hashee8ooYai5wa3y",
        );
        let lines = plan(&owner, TWO, "10.9.1.2/24", &Saved::default());
        let chain = chain(&owner);
        assert_eq!(chain.len(), 28);
        let comment = format!(r#""dnat name: \"test\" id: \"{}\"""#, owner.container_id);
        assert_eq!(
            lines,
            [
                "-N CNI-HOSTPORT-DNAT".to_owned(),
                "-N CNI-HOSTPORT-SETMARK".to_owned(),
                "-N CNI-HOSTPORT-MASQ".to_owned(),
                "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT".to_owned(),
                "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT".to_owned(),
                "-I POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ".to_owned(),
                "-A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000".to_owned(),
                "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE".to_owned(),
                format!("-N {chain}"),
                format!("-A {chain} -s 10.9.1.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK"),
                format!("-A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK"),
                format!("-A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.9.1.2:80"),
                format!("-A {chain} -s 10.9.1.0/24 -d 192.0.2.1/32 -p tcp -m tcp --dport 8081 -j CNI-HOSTPORT-SETMARK"),
                format!("-A {chain} -s 127.0.0.1/32 -d 192.0.2.1/32 -p tcp -m tcp --dport 8081 -j CNI-HOSTPORT-SETMARK"),
                format!("-A {chain} -d 192.0.2.1/32 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 10.9.1.2:81"),
                format!("-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment {comment} -m multiport --dports 8080,8081 -j {chain}"),
            ]
        );
    }

    #[test]
    fn ipv6_has_brackets_and_no_localhost() {
        let lines = plan(&owner("a"), TWO, "fd09:1::2/64", &Saved::default());
        let chain = chain(&owner("a"));
        assert!(lines.contains(&format!(
            "-A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd09:1::2]:80"
        )));
        assert!(!lines.iter().any(|line| line.contains("127.0.0.1")));
        let with_8081 = lines.iter().filter(|line| line.contains("8081"));
        assert_eq!(with_8081.count(), 1, "another family's address");
    }

    #[test]
    fn options() {
        let plan = |more: &str| {
            let keys = TWO.replacen('{', &format!("{{{more},"), 1);
            plan(&owner("a"), &keys, "10.9.1.2/24", &Saved::default()).join("\n")
        };
        let no_snat = plan(r#""snat":false"#);
        assert!(
            !no_snat.contains("MASQ") && !no_snat.contains("SETMARK"),
            "{no_snat}"
        );
        let all = plan(r#""masqAll":true,"markMasqBit":4"#);
        assert!(
            all.contains("--set-xmark 0x10/0x10") && !all.contains("-s "),
            "{all}"
        );
        let external = plan(r#""externalSetMarkChain":"KUBE-MARK-MASQ""#);
        assert!(
            external.contains("--dport 8080 -j KUBE-MARK-MASQ"),
            "{external}"
        );
        assert!(!external.contains("-N CNI-HOSTPORT-MASQ"), "{external}");
        let conditions = plan(r#""conditionsV4":["!","-s","192.0.2.0/24"]"#);
        assert!(
            conditions.contains("--dports 8080,8081 ! -s 192.0.2.0/24 -j CNI-DN-"),
            "{conditions}"
        );
    }

    #[test]
    fn many_ports_are_split() {
        let mappings: Vec<_> = (1..=31)
            .map(|port| format!(r#"{{"hostPort":{port},"containerPort":80,"protocol":"udp"}}"#))
            .collect();
        let keys = format!(
            r#"{{"runtimeConfig":{{"portMappings":[{}]}}}}"#,
            mappings.join(",")
        );
        let lines = plan(&owner("a"), &keys, "10.9.1.2/24", &Saved::default());
        let entries = lines.iter().filter(|line| line.contains("multiport"));
        let counts: Vec<_> = entries.map(|line| line.matches(',').count() + 1).collect();
        assert_eq!(counts, [15, 15, 1]);
    }

    #[test]
    fn again_and_evicted() {
        let first = saved(&plan(&owner("a"), TWO, "10.9.1.2/24", &Saved::default()));
        assert_eq!(first.rules.len(), 12);
        let again = plan(&owner("a"), TWO, "10.9.1.2/24", &first);
        let chain = chain(&owner("a"));
        assert!(again.contains(&format!("-F {chain}")) && again.contains(&format!("-X {chain}")));
        assert!(!again.iter().any(|line| line.contains("PREROUTING")));

        let other = plan(&owner("b"), TWO, "10.9.2.2/24", &first);
        let evicted: Vec<_> = other.iter().filter(|line| line.starts_with("-D")).collect();
        assert_eq!(evicted.len(), 6, "{evicted:?}");
        assert!(
            evicted
                .iter()
                .all(|line| line.starts_with(&format!("-D {chain} ")))
        );
        // another port is nobody's business
        let apart = TWO.replace("8080", "9080").replace("8081", "9081");
        let apart = plan(&owner("b"), &apart, "10.9.2.2/24", &first);
        assert!(!apart.iter().any(|line| line.starts_with("-D")));
    }

    #[test]
    fn what_is_there_is_found() {
        let (owner, address) = (owner("a"), "10.9.1.2/24");
        let mut found = saved(&plan(&owner, TWO, address, &Saved::default()));
        let (conf, net) = (conf(TWO), address.parse::<IpNetwork>().unwrap());
        let wanted = conf.forwards(net.ip());
        assert_eq!(missing(&owner, &conf, &wanted, net, &found), None);
        assert_eq!(forwards(&found, |name| name == chain(&owner)), wanted);
        assert_eq!(
            containers(&found, "test"),
            [("a".to_owned(), chain(&owner).as_str())]
        );
        assert!(containers(&found, "tes").is_empty());
        for position in 0..found.rules.len() {
            let rule = found.rules.remove(position);
            let gone = missing(&owner, &conf, &wanted, net, &found);
            assert_eq!(gone.as_ref(), Some(&rule));
            found.rules.insert(position, rule);
        }
    }

    #[test]
    fn old_chains_go_when_they_are_empty() {
        let (mine, other) = (&chains_of(&owner("a"))[1], &chains_of(&owner("b"))[1]);
        let mut found = Saved {
            chains: vec![OLD_SNAT.into(), mine.clone(), other.clone()],
            rules: vec![
                format!("-A POSTROUTING -s 127.0.0.1/32 ! -d 127.0.0.1/32 -j {OLD_SNAT}"),
                format!("-A {OLD_SNAT} -m comment --comment x -j {mine}"),
                format!("-A {OLD_SNAT} -m comment --comment x -j {other}"),
            ],
        };
        let gone = |chain: &str| chains_of(&owner("a")).iter().any(|own| own == chain);
        assert_eq!(
            removals(&found, gone),
            [
                format!("-D {OLD_SNAT} -m comment --comment x -j {mine}"),
                format!("-F {mine}"),
                format!("-X {mine}"),
            ]
        );
        found.rules.pop();
        found.chains.pop();
        let all = removals(&found, gone);
        assert!(all.contains(&format!("-X {OLD_SNAT}")), "{all:?}");
        assert!(all[0].starts_with("-D POSTROUTING"), "{all:?}");
    }

    #[test]
    fn garbage_is_nobody_s() {
        let found = Saved {
            chains: vec![],
            rules: [
                "-A CNI-DN-x",
                "-A CNI-DN-x -p tcp --dport",
                "-A",
                "",
                "-A CNI-HOSTPORT-DNAT -j",
            ]
            .map(String::from)
            .to_vec(),
        };
        assert!(forwards(&found, |_| true).is_empty());
        assert!(containers(&found, "test").is_empty());
        let ip: IpAddr = "10.9.1.2".parse().unwrap();
        assert!(evictions(&conf(TWO).forwards(ip), "own", &found).is_empty());
    }
}
