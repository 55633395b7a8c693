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
pub(crate) use shared_names::portmap::{DNAT_CHAIN as DNAT, IPTABLES_TABLE as TABLE};
use shared_names::portmap::{MASQ_CHAIN as MASQ, SETMARK_CHAIN as SETMARK};
use std::{collections::BTreeMap, net::SocketAddr};

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
            rule.starts_with(&format!("-A {DNAT} "))
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
        let rule = line.strip_prefix(&format!("-A {DNAT} "))?;
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
mod tests;
