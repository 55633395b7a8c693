use super::*;
use ipnetwork::IpNetwork;

fn peers() -> Peers {
    let net = |text: &str| text.parse::<IpNetwork>().unwrap();
    let peer = |n: u8| SocketAddr::from(([192, 0, 2, n], 8285));
    Peers {
        routes: PrefixTable::new([
            (net("10.1.2.0/24"), peer(2)),
            (net("fd00:2::/64"), "[fd31::2]:8285".parse().unwrap()),
        ])
        .unwrap(),
        own: PrefixTable::new([(net("10.1.1.0/24"), ()), (net("fd00:1::/64"), ())]).unwrap(),
    }
}

fn v4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut packet = ip::v4_header(source.into(), destination.into(), 17, 12).to_vec();
    packet.extend([1; 12]);
    packet
}

#[test]
fn packets_go_to_the_peer_that_has_the_subnet() {
    let route = |destination| {
        route(
            &peers(),
            &Header::read(&v4([10, 1, 1, 5], destination)).unwrap(),
        )
    };
    assert_eq!(
        route([10, 1, 2, 9]),
        Route::To("192.0.2.2:8285".parse().unwrap())
    );
    assert_eq!(route([10, 1, 3, 9]), Route::Unknown);
    assert_eq!(route([10, 1, 1, 9]), Route::Unknown);
    assert_eq!(route([224, 0, 0, 1]), Route::Link);
    let v6 = |text: &str| {
        let packet = ip::v6_header("fd00:1::5".parse().unwrap(), text.parse().unwrap(), 17, 0);
        super::route(&peers(), &Header::read(&packet).unwrap())
    };
    assert_eq!(
        v6("fd00:2::9"),
        Route::To("[fd31::2]:8285".parse().unwrap())
    );
    assert_eq!(v6("fd00:3::9"), Route::Unknown);
    assert_eq!(v6("ff02::2"), Route::Link);
}

#[test]
fn only_packets_for_this_node_from_another_are_accepted() {
    let accept = |source, destination| accept(&peers(), &v4(source, destination));
    assert_eq!(accept([10, 1, 2, 9], [10, 1, 1, 5]), Ok(32));
    assert_eq!(accept([203, 0, 113, 9], [10, 1, 1, 5]), Ok(32));
    for (source, destination) in [
        ([10, 1, 2, 9], [10, 1, 2, 5]),
        ([10, 1, 2, 9], [192, 0, 2, 1]),
        ([10, 1, 1, 9], [10, 1, 1, 5]),
        ([127, 0, 0, 1], [10, 1, 1, 5]),
        ([0, 0, 0, 0], [10, 1, 1, 5]),
        ([224, 0, 0, 5], [10, 1, 1, 5]),
        ([255, 255, 255, 255], [10, 1, 1, 5]),
    ] {
        assert_eq!(
            accept(source, destination),
            Err(Counter::Spoofed),
            "{source:?} {destination:?}"
        );
    }
    assert_eq!(
        super::accept(&peers(), &[0x45; 19]),
        Err(Counter::Malformed)
    );
    let mut padded = v4([10, 1, 2, 9], [10, 1, 1, 5]);
    padded.extend([0; 30]);
    assert_eq!(super::accept(&peers(), &padded), Ok(32));
}
