//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{DataType, Saved, Set, ValueType, conntrack, iptables, lock, monitor, reply};

/// A message of nftables or conntrack, as every kind of object: its type in two bytes, and what
/// follows the netlink header.
pub fn reply(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let Ok(object) = reply::Object::read(u16::from_le_bytes(*kind), payload) else {
        return;
    };
    let attributes = object.attributes;
    if let Some(family) = object.family() {
        reply::table(attributes, family);
    }
    reply::chain(attributes, "t");
    reply::rule(attributes, "t");
    reply::generation(attributes);
    monitor::change(u16::from_le_bytes(*kind), payload);
    conntrack::read(attributes);
    for set in sets() {
        for element in reply::elements(attributes) {
            drop(set.read(element));
        }
    }
}

fn sets() -> [Set; 3] {
    let set = |key: &[DataType], value| Set {
        name: "s".to_owned(),
        key: key.to_vec(),
        value,
        comment: None,
    };
    let address = [DataType::Ipv4Addr, DataType::InetService];
    [
        set(&[DataType::Ipv4Addr], None),
        set(
            &[DataType::InetProto, DataType::InetService],
            Some(ValueType::Data(address.to_vec())),
        ),
        set(&[DataType::Ifname], Some(ValueType::Verdict)),
    ]
}

/// What `iptables-save` prints.
pub fn parse(bytes: &[u8]) -> Saved {
    iptables::parse(&String::from_utf8_lossy(bytes))
}

/// The same, and what removes chains from it: each line is a command of its own. Of a whole
/// listing, the rules that lead to a chain are among those of the chain that they are in.
pub fn saved(bytes: &[u8]) {
    for saved in iptables::parse_tables(&String::from_utf8_lossy(bytes)).into_values() {
        for chain in &saved.chains {
            let rules = saved.rules_of(chain).unwrap_or_default();
            let jumps = saved.jumps(chain, "CNI-HOSTPORT-DNAT");
            assert!(jumps.iter().all(|jump| rules.contains(jump)), "{chain:?}");
        }
    }
    for line in parse(bytes).removal(|chain| chain.starts_with("CNI-")) {
        let commands = ["-D ", "-F ", "-X "];
        assert!(commands.iter().any(|command| line.starts_with(command)));
        assert!(!line.contains('\n'), "{line:?}");
    }
}

/// What `iptables-restore` complains of, and /proc/locks.
pub fn complaint(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(iptables::complaint(bytes, Some(&text)).contains(text.trim()));
    lock::locked_by(&text, 5678);
}
