//! The rules of the iptables back end as text. Chains, names, comments and order are upstream's,
//! whose source asks that "these names should never be changed". Rules are written as
//! `iptables-save` prints them, so that both can be compared.

use crate::{
    conf::{Conf, Mark},
    error::Failure,
    forward::{Forward, HostSide, Protocol, covers},
    holder::{Holder, Owner},
    leftover::Owners,
    mappings::Mappings,
};
use ipnetwork::IpNetwork;
use packet_filter::Saved;
use plugin::{Attachment, hash::sha512_prefix};
pub(crate) use shared_names::portmap::{DNAT_CHAIN as DNAT, IPTABLES_TABLE as TABLE};
use shared_names::portmap::{MASQ_CHAIN as MASQ, SETMARK_CHAIN as SETMARK};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    iter,
    net::SocketAddr,
};

/// A shared chain of old releases.
const OLD_SNAT: &str = "CNI-HOSTPORT-SNAT";
const CONTAINER: &str = "CNI-DN-";
const OLD_CONTAINER: &str = "CNI-SN-";
/// Longest name of a chain, in bytes (XT_EXTENSION_MAXNAMELEN less the NUL).
pub(crate) const NAME_LEN: usize = 28;
/// Longest comment, in bytes (XT_MAX_COMMENT_LEN less the NUL).
const COMMENT_MAX: usize = 255;
/// Ports of one multiport match (XT_MULTI_PORTS).
const PORTS_MAX: usize = 15;

/// The interface for which a container's chains have upstream's names: what runtimes call the first
/// interface of a container.
const MAIN_INTERFACE: &str = "eth0";

fn chain_name(prefix: &str, text: &str) -> String {
    format!("{prefix}{}", sha512_prefix(text, NAME_LEN - prefix.len()))
}

/// The chain with an attachment's mappings. Upstream's chain for the one interface that nearly
/// every container has; another interface of a container has a chain of its own.
pub(crate) fn chain(owner: &Attachment) -> String {
    chains_of(owner).into_iter().next().unwrap_or_default()
}

/// The attachment's chains, also that of old releases.
pub(crate) fn chains_of(owner: &Attachment) -> [String; 2] {
    let Attachment {
        network,
        container_id,
        ifname,
    } = owner;
    match ifname == MAIN_INTERFACE {
        true => shared_chains_of(owner),
        // neither ids nor names contain a slash
        false => {
            let text = format!("{network}/{container_id}/{ifname}");
            [CONTAINER, OLD_CONTAINER].map(|prefix| chain_name(prefix, &text))
        }
    }
}

/// Upstream's chain, which upstream and earlier versions of this plugin use for all interfaces of
/// a container in a network.
pub(crate) fn shared_chain(owner: &Attachment) -> String {
    shared_chains_of(owner)
        .into_iter()
        .next()
        .unwrap_or_default()
}

/// Upstream's chains, also that of old releases.
pub(crate) fn shared_chains_of(owner: &Attachment) -> [String; 2] {
    let text = format!("{}{}", owner.network, owner.container_id);
    [CONTAINER, OLD_CONTAINER].map(|prefix| chain_name(prefix, &text))
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
    if owner.ifname != MAIN_INTERFACE {
        text = format!("{text} if: \"{}\"", owner.ifname);
    }
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

/// Lines that add the mappings to the saved table. They replace the attachment's own chain and
/// delete rules of containers that are gone for the same host ports. Err: a container that exists
/// has one of them.
pub(crate) fn additions(mappings: &Mappings<'_>, saved: &Saved) -> Result<Vec<String>, Failure> {
    let own = chain(mappings.owner);
    let (chains, rules) = shared(mappings.conf);
    let mut lines = saved.removal(|chain| chain == own);
    lines.extend(evictions(mappings, &own, saved)?);
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
    let conditions = mappings.conditions().iter().map(|word| quoted(word));
    let conditions = conditions.collect::<Vec<_>>().join(" ");
    let entries = entry_rules(mappings).into_iter();
    lines.extend(entries.map(|(matches, jump)| match conditions.as_str() {
        "" => format!("{matches} {jump}"),
        conditions => format!("{matches} {conditions} {jump}"),
    }));
    Ok(lines)
}

/// One word for iptables-restore: in quotation marks where it has more than plain characters.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.,:/=+@%".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!(
            "\"{}\"",
            word.replace('\\', "\\\\").replace('"', "\\\"")
        )),
    }
}

/// Deletes the rules of containers that are gone which would take the packets. Another interface of
/// the container keeps its rules, which come first, as with upstream.
fn evictions(mappings: &Mappings<'_>, own: &str, saved: &Saved) -> Result<Vec<String>, Failure> {
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    let taken: Vec<(&str, &str)> = taken_rules(mappings, own, saved).collect();
    for (chain, rule) in &taken {
        if let Some(held) = forward(rule)
            && mappings.container.judge(&held, &holder(saved, chain))? == Holder::Gone
        {
            gone.insert(chain);
        }
    }
    let obsolete = taken.iter().filter(|(chain, _)| gone.contains(chain));
    Ok(obsolete.map(|(_, rule)| format!("-D {rule}")).collect())
}

/// (chain, rule without `-A`) of other containers that take packets to the host sides.
fn taken_rules<'s>(
    mappings: &Mappings<'_>,
    own: &str,
    saved: &'s Saved,
) -> impl Iterator<Item = (&'s str, &'s str)> {
    let rules = saved.rules.iter();
    let rules = rules.filter_map(|line| line.strip_prefix("-A "));
    rules.filter_map(move |rule| {
        let (chain, _) = rule.split_once(' ')?;
        let side = host_side(rule)?;
        let mut forwards = mappings.forwards.iter();
        let is_taken = chain.starts_with(CONTAINER)
            && chain != own
            && forwards.any(|forward| covers(side, forward.host_side()));
        is_taken.then_some((chain, rule))
    })
}

/// The owner of a container's chain, by the comment of the rule that leads to it.
fn holder(saved: &Saved, chain: &str) -> Owner {
    let start = format!("-A {DNAT} ");
    let mut comments = saved.rules.iter().filter_map(|rule| {
        let rule = rule.strip_prefix(&start)?;
        (rule.rsplit_once(" -j ")?.1 == chain).then_some(())?;
        unquote(rule.split_once("--comment \"")?.1)
    });
    let comment = comments.next().unwrap_or_else(|| format!("chain {chain}"));
    // the comment may be cut off
    let id = comment
        .split_once("\" id: \"")
        .and_then(|(_, rest)| rest.split_once('"'));
    Owner {
        container_id: id.map(|(id, _)| id.to_owned()),
        description: comment.trim_start_matches("dnat ").to_owned(),
    }
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
        forward(rule).filter(|_| chains.contains(chain))
    };
    saved.rules.iter().filter_map(parse).collect()
}

/// The containers' chains, with the addresses that their rules lead to.
pub(crate) fn owners(saved: &Saved) -> Owners {
    let mut owners = Owners::new();
    for line in &saved.rules {
        if let Some(rule) = line.strip_prefix("-A ")
            && let Some((chain, _)) = rule.split_once(' ')
            && chain.starts_with(CONTAINER)
            && let Some(forward) = forward(rule)
        {
            let addresses = owners.entry(chain.to_owned()).or_default();
            addresses.insert(forward.container);
        }
    }
    owners
}

/// The mapping that a rule translates to.
fn forward(rule: &str) -> Option<Forward> {
    let target: SocketAddr = option(rule, "--to-destination")?.parse().ok()?;
    let (protocol, host_ip, host_port) = host_side(rule)?;
    Some(Forward {
        protocol,
        host_ip,
        host_port,
        container: target.ip(),
        container_port: target.port(),
    })
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
    let target = |rule: &str| {
        rule.rsplit_once(" -j ")
            .map(|(_, target)| target.to_owned())
    };
    let jumps_to_removed = |rule: &str| target(rule).is_some_and(|to| chains.contains(&to));
    let old_is_needed =
        (saved.rules.iter()).any(|rule| rule.starts_with(&old) && !jumps_to_removed(rule));
    saved.removal(|chain| chains.contains(chain) || (chain == OLD_SNAT && !old_is_needed))
}

/// The chains of the network's attachments that are not valid. The chain that the interfaces of a
/// container share stays if one that is valid has no chain of its own: its rules may be in it.
pub(crate) fn stale(saved: &Saved, network: &str, valid: &[Attachment]) -> BTreeSet<String> {
    let chains = |owner: &Attachment| {
        let own = chain(owner);
        let has_own = saved.chains.contains(&own);
        let shared = (!has_own).then(|| shared_chain(owner));
        iter::once(own).chain(shared)
    };
    let valid: BTreeSet<String> = valid.iter().flat_map(chains).collect();
    let all = chains_of_network(saved, network).into_iter();
    all.filter(|chain| !valid.contains(*chain))
        .map(str::to_owned)
        .collect()
}

/// The chains of the containers in this network, from the comments of the rules that jump to them.
pub(crate) fn chains_of_network<'s>(saved: &'s Saved, network: &str) -> BTreeSet<&'s str> {
    let start = format!("dnat name: \"{network}\" id: \"");
    let parse = |line: &'s String| {
        let rule = line.strip_prefix(&format!("-A {DNAT} "))?;
        let (_, comment) = rule.split_once("--comment \"")?;
        unquote(comment)?.strip_prefix(&start)?;
        let (_, chain) = rule.rsplit_once(" -j ")?;
        Some(chain)
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
