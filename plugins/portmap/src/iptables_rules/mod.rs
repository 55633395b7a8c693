//! The rules of the iptables back end as text. Chains, names, comments and order are upstream's,
//! whose source asks that "these names should never be changed". Rules are written as
//! `iptables-save` prints them, so that both can be compared.

use crate::{
    conf::{Conf, Mark},
    forward::{Forward, HostSide, Protocol},
    mappings::Mappings,
};
use ipnetwork::IpNetwork;
use packet_filter::Saved;
use plugin::{Attachment, hash::sha512_prefix};
pub(crate) use shared_names::portmap::{DNAT_CHAIN as DNAT, IPTABLES_TABLE as TABLE};
use shared_names::portmap::{MASQ_CHAIN as MASQ, SETMARK_CHAIN as SETMARK};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// A shared chain of old releases.
const OLD_SNAT: &str = "CNI-HOSTPORT-SNAT";
const CONTAINER: &str = "CNI-DN-";
const OLD_CONTAINER: &str = "CNI-SN-";
/// Longest name of a chain, in bytes (XT_EXTENSION_MAXNAMELEN less the NUL).
const NAME_LEN: usize = 28;
/// Longest comment, in bytes (XT_MAX_COMMENT_LEN less the NUL).
const COMMENT_MAX: usize = 255;
/// Ports of one multiport match (XT_MULTI_PORTS).
const PORTS_MAX: usize = 15;

fn container_chain(prefix: &str, owner: &Attachment) -> String {
    let text = format!("{}{}", owner.network, owner.container_id);
    format!("{prefix}{}", sha512_prefix(text, NAME_LEN - prefix.len()))
}

/// The chain with a container's mappings.
pub(crate) fn chain(owner: &Attachment) -> String {
    container_chain(CONTAINER, owner)
}

/// The container's chains, also that of old releases.
pub(crate) fn chains_of(owner: &Attachment) -> [String; 2] {
    [CONTAINER, OLD_CONTAINER].map(|prefix| container_chain(prefix, owner))
}

/// A rule that all containers share.
struct SharedRule {
    text: String,
    /// at the head of its chain, else at the end
    first: bool,
}

/// The chains and rules that all containers share.
fn shared(conf: &Conf) -> (Vec<&'static str>, Vec<SharedRule>) {
    let append = |text| SharedRule { text, first: false };
    let jump = |from: &str| format!("-A {from} -m addrtype --dst-type LOCAL -j {DNAT}");
    let mut chains = vec![DNAT];
    let mut rules = vec![append(jump("PREROUTING")), append(jump("OUTPUT"))];
    if let (true, Mark::Bit(bit)) = (conf.snat, &conf.mark) {
        chains.extend([SETMARK, MASQ]);
        let mark = format!("{:#x}/{0:#x}", 1u32 << bit);
        let comment = |text: &str| format!("-m comment --comment \"CNI portfwd {text}\"");
        let (requiring, setting) = (comment("requiring masquerade"), comment("masquerade mark"));
        rules.extend([
            SharedRule {
                text: format!("-A POSTROUTING {requiring} -j {MASQ}"),
                first: true,
            },
            append(format!("-A {SETMARK} {setting} -j MARK --set-xmark {mark}")),
            append(format!("-A {MASQ} -m mark --mark {mark} -j MASQUERADE")),
        ]);
    }
    (chains, rules)
}

fn comment(owner: &Attachment) -> String {
    let mut text = format!(
        "dnat name: \"{}\" id: \"{}\"",
        owner.network, owner.container_id
    );
    // ids and names are ASCII
    text.truncate(COMMENT_MAX);
    format!("\"{}\"", text.replace('"', "\\\""))
}

/// Rules that jump to the container's chain, each in two parts: conditions go between them. Like
/// upstream's, they also match ports that only the other family has mappings for.
fn entry_rules(mappings: &Mappings<'_>) -> Vec<(String, String)> {
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (protocol, port) in mappings.conf.host_ports() {
        let ports = ports.entry(protocol.name()).or_default();
        ports.push(port.to_string());
    }
    let (comment, chain) = (comment(mappings.owner), chain(mappings.owner));
    let rule = |protocol: &str, ports: &[String]| {
        let ports = ports.join(",");
        let matches = format!(
            "-A {DNAT} -p {protocol} -m comment --comment {comment} -m multiport --dports {ports}"
        );
        (matches, format!("-j {chain}"))
    };
    ports
        .iter()
        .flat_map(|(protocol, ports)| ports.chunks(PORTS_MAX).map(|ports| rule(protocol, ports)))
        .collect()
}

/// Rules of the container's chain. The rules that mark a packet come before the rule that
/// translates it.
fn container_rules(mappings: &Mappings<'_>) -> Vec<String> {
    let Mappings { conf, address, .. } = mappings;
    let chain = chain(mappings.owner);
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
    for forward in &mappings.forwards {
        let protocol = forward.protocol.name();
        let host = match forward.host_ip {
            Some(ip) => format!("-d {} ", IpNetwork::from(ip)),
            None => String::new(),
        };
        let port = format!("-p {protocol} -m {protocol} --dport {}", forward.host_port);
        for source in &sources {
            rules.push(format!("-A {chain} {source}{host}{port} -j {mark}"));
        }
        rules.push(format!(
            "-A {chain} {host}{port} -j DNAT --to-destination {}",
            forward.target()
        ));
    }
    rules
}

/// Lines that add the mappings to the saved table. They replace the container's own chain and
/// delete other containers' rules for the same host ports.
pub(crate) fn additions(mappings: &Mappings<'_>, saved: &Saved) -> Vec<String> {
    let own = chain(mappings.owner);
    let (chains, rules) = shared(mappings.conf);
    let mut lines = saved.removal(|chain| chain == own);
    lines.extend(evictions(&mappings.forwards, &own, saved));
    let is_missing = |chain: &&str| !saved.chains.iter().any(|found| found == chain);
    let missing_chains = chains.into_iter().filter(is_missing);
    lines.extend(missing_chains.map(|chain| format!("-N {chain}")));
    let missing_rules = rules
        .into_iter()
        .filter(|rule| !saved.rules.contains(&rule.text));
    lines.extend(missing_rules.map(|rule| match rule.first {
        true => rule.text.replacen("-A", "-I", 1),
        false => rule.text,
    }));
    lines.push(format!("-N {own}"));
    lines.extend(container_rules(mappings));
    let conditions = mappings.conditions().join(" ");
    let entries = entry_rules(mappings).into_iter();
    lines.extend(entries.map(|(matches, jump)| match conditions.as_str() {
        "" => format!("{matches} {jump}"),
        conditions => format!("{matches} {conditions} {jump}"),
    }));
    lines
}

/// Deletes other containers' rules for the same host side: the last ADD of a host port wins.
fn evictions(forwards: &[Forward], own: &str, saved: &Saved) -> Vec<String> {
    let is_taken = |rule: &&str| {
        let Some((chain, _)) = rule.split_once(' ') else {
            return false;
        };
        chain.starts_with(CONTAINER)
            && chain != own
            && host_side(rule)
                .is_some_and(|side| forwards.iter().any(|forward| forward.host_side() == side))
    };
    let rules = saved.rules.iter();
    let rules = rules.filter_map(|line| line.strip_prefix("-A "));
    rules
        .filter(is_taken)
        .map(|rule| format!("-D {rule}"))
        .collect()
}

/// The value of an option in a rule.
fn option<'r>(rule: &'r str, name: &str) -> Option<&'r str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == name)?;
    words.next()
}

/// None for a rule that does not match a host port.
fn host_side(rule: &str) -> Option<HostSide> {
    let ip = match option(rule, "-d") {
        Some(net) => Some(net.parse::<IpNetwork>().ok()?.ip()),
        None => None,
    };
    let protocol = Protocol::parse(option(rule, "-p")?)?;
    Some((protocol, ip, option(rule, "--dport")?.parse().ok()?))
}

/// The mappings in these chains.
pub(crate) fn forwards(saved: &Saved, chains: &BTreeSet<String>) -> Vec<Forward> {
    let parse = |line: &String| {
        let rule = line.strip_prefix("-A ")?;
        let (chain, _) = rule.split_once(' ')?;
        let target: SocketAddr = option(rule, "--to-destination")?.parse().ok()?;
        let (protocol, host_ip, host_port) = host_side(rule)?;
        chains.contains(chain).then_some(Forward {
            protocol,
            host_ip,
            host_port,
            container: target.ip(),
            container_port: target.port(),
        })
    };
    saved.rules.iter().filter_map(parse).collect()
}

/// The first rule of the mappings that the saved table lacks.
pub(crate) fn missing(mappings: &Mappings<'_>, saved: &Saved) -> Option<String> {
    let shared = shared(mappings.conf).1.into_iter().map(|rule| rule.text);
    let unconditional = mappings.conditions().is_empty();
    // iptables-save may print conditions in another form than the configuration has
    let is_saved = |(matches, jump): &(String, String)| {
        saved.rules.iter().any(|rule| {
            rule.starts_with(&format!("-A {DNAT} "))
                && rule.ends_with(jump)
                && (!unconditional || *rule == format!("{matches} {jump}"))
        })
    };
    shared
        .chain(container_rules(mappings))
        .find(|rule| !saved.rules.contains(rule))
        .or_else(|| {
            let mut entries = entry_rules(mappings).into_iter();
            let (matches, jump) = entries.find(|entry| !is_saved(entry))?;
            Some(format!("{matches} {jump}"))
        })
}

/// Lines that remove chains with every rule that jumps to them, and the old shared chain when it
/// becomes empty.
pub(crate) fn removals(saved: &Saved, chains: &BTreeSet<String>) -> Vec<String> {
    let old = format!("-A {OLD_SNAT} ");
    let jumps_to_removed = |rule: &str| option(rule, "-j").is_some_and(|to| chains.contains(to));
    let old_is_needed =
        (saved.rules.iter()).any(|rule| rule.starts_with(&old) && !jumps_to_removed(rule));
    saved.removal(|chain| chains.contains(chain) || (chain == OLD_SNAT && !old_is_needed))
}

/// (container id, chain) of the containers in this network, from the comments of the rules that
/// jump to their chains.
pub(crate) fn containers<'s>(saved: &'s Saved, network: &str) -> Vec<(String, &'s str)> {
    let start = format!("dnat name: \"{network}\" id: \"");
    let parse = |line: &'s String| {
        let rule = line.strip_prefix(&format!("-A {DNAT} "))?;
        let (_, comment) = rule.split_once("--comment \"")?;
        let comment = unquote(comment)?;
        // a truncated id has no closing quote and identifies no container
        let id = comment.strip_prefix(&start)?.strip_suffix('"')?;
        let (_, chain) = rule.rsplit_once(" -j ")?;
        Some((id.to_owned(), chain))
    };
    saved.rules.iter().filter_map(parse).collect()
}

/// The text up to the closing quote, in the quoting of iptables-save.
fn unquote(text: &str) -> Option<String> {
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
