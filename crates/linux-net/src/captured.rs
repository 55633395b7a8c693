//! Messages captured from a 6.18 kernel: whole, truncated and damaged.

use crate::{
    Mac,
    address::{self, Address, AddressFlags, AddressScope},
    fdb::FdbEntry,
    link::{self, BridgePort, Kind, Vxlan},
    neighbour::{Entry, Neighbour, NeighbourState},
    netlink::{Read, attributes},
    route::{self, Route},
};
use proptest::prelude::*;

const VXLAN: &[u8] = include_bytes!("../testdata/link-vxlan.bin");
const PORT: &[u8] = include_bytes!("../testdata/link-port.bin");
const ADDRESS: &[u8] = include_bytes!("../testdata/address.bin");
const ONLINK: &[u8] = include_bytes!("../testdata/route-onlink.bin");
const MULTIPATH: &[u8] = include_bytes!("../testdata/route-multipath.bin");
const NEIGHBOUR: &[u8] = include_bytes!("../testdata/neighbour.bin");
const FDB: &[u8] = include_bytes!("../testdata/fdb.bin");

#[test]
fn captured_links_are_read() {
    let vxlan = link::read(VXLAN).unwrap();
    assert_eq!(
        (vxlan.index, vxlan.name.as_str(), vxlan.mtu),
        (4, "flannel.1", 1450)
    );
    assert_eq!(vxlan.mac, Some(Mac([0x12, 0xc6, 0x65, 0x89, 0xb4, 0xe3])));
    assert!(vxlan.up && !vxlan.loopback && !vxlan.promisc);
    assert_eq!(vxlan.alias.as_deref(), Some("a b"));
    let expected = Vxlan {
        vni: 1,
        lower: Some(3),
        local: Some([192, 0, 2, 1].into()),
        port: Some(8472),
        ..Vxlan::default()
    };
    assert_eq!((vxlan.kind, vxlan.port), (Kind::Vxlan(expected), None));
    let port = link::read(PORT).unwrap();
    assert_eq!((port.name.as_str(), port.kind), ("veth7", Kind::Veth));
    assert_eq!((port.master, port.up), (Some(5), false));
    let both = BridgePort {
        hairpin: true,
        isolated: true,
    };
    assert_eq!(port.port, Some(both));
}

#[test]
fn captured_addresses_routes_and_neighbours_are_read() {
    let address = Address {
        index: 4,
        net: "fd10::1/64".parse().unwrap(),
        scope: AddressScope::Universe,
        flags: AddressFlags::Permanent | AddressFlags::Nodad,
        label: None,
    };
    assert_eq!(address::read(ADDRESS), Ok(Some(address)));
    let onlink = Route {
        gateway: Some([10, 244, 1, 0].into()),
        oif: Some(4),
        onlink: true,
        mtu: 1400,
        ..Route::new("10.244.1.0/24".parse().unwrap())
    };
    assert_eq!(route::read(ONLINK), Ok(Some(onlink)));
    let several = Route {
        other_attributes: true,
        ..Route::new("10.77.0.0/16".parse().unwrap())
    };
    assert_eq!(route::read(MULTIPATH), Ok(Some(several)));
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let entry = Entry::read(NEIGHBOUR).unwrap();
    let neighbour = Neighbour::permanent(4, [10, 244, 1, 0].into(), mac);
    assert_eq!((entry.neighbour(), entry.fdb()), (Some(neighbour), None));
    let entry = Entry::read(FDB).unwrap();
    // `bridge fdb add` sets NUD_NOARP besides
    let fdb = FdbEntry {
        state: NeighbourState::Other(0xc0),
        ..FdbEntry::permanent(4, mac, [192, 0, 2, 2].into())
    };
    assert!(fdb.is_permanent());
    assert_eq!((entry.fdb(), entry.neighbour()), (Some(fdb), None));
}

/// Reads as every kind of object; true if any of them went well.
fn read(bytes: &[u8]) -> bool {
    let results: [Read<()>; 4] = [
        link::read(bytes).map(drop),
        address::read(bytes).map(drop),
        route::read(bytes).map(drop),
        Entry::read(bytes).map(|entry| {
            entry.fdb();
            entry.neighbour();
        }),
    ];
    results.iter().any(Result::is_ok)
}

#[test]
fn message_is_readable_where_an_attribute_ends() {
    for whole in [VXLAN, PORT] {
        let mut ends = vec![16..=16];
        let mut at = 16;
        for attribute in attributes(&whole[16..]) {
            let end = at + 4 + attribute.unwrap().value.len();
            at = end.next_multiple_of(4);
            ends.push(end..=at);
        }
        for length in 0..=whole.len() {
            let readable = ends.iter().any(|end| end.contains(&length));
            assert_eq!(link::read(&whole[..length]).is_ok(), readable, "{length}");
        }
    }
    for length in 0..8 {
        assert!(!read(&ONLINK[..length]), "{length} bytes are no header");
    }
}

proptest! {
    #[test]
    fn damaged_messages_do_not_panic(which in 0..7usize, at: prop::sample::Index, value: u8, more in prop::collection::vec(any::<u8>(), 0..8)) {
        let mut bytes = [VXLAN, PORT, ADDRESS, ONLINK, MULTIPATH, NEIGHBOUR, FDB][which].to_vec();
        prop_assert!(read(&bytes));
        let at = at.index(bytes.len());
        bytes[at] = value;
        bytes.extend(more);
        read(&bytes);
    }
}
