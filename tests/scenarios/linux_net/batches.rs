//! Batches of requests, and dumps during changes.

use super::with_bridge;
use ipnetwork::IpNetwork;
use linux_net::{
    Mac, Netlink, Request,
    link::{self},
    neighbour::{self, Neighbour},
    route::{self, Filter, MAIN_TABLE, Route},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};
use tests::scenario;

const MANY: u32 = 10_000;

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number * 256).into()
}

fn route(index: u32, number: u32) -> Route {
    Route {
        gateway: Some(address(number)),
        oif: Some(index),
        onlink: true,
        ..Route::new(IpNetwork::new(address(number), 24).expect("network"))
    }
}

fn neighbours(index: u32, count: u32) -> Vec<Neighbour> {
    let entry = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        Neighbour::permanent(index, address(number), Mac([2, 0, 0, a, b, c]))
    };
    (0..count).map(entry).collect()
}

#[scenario]
fn refused_requests_do_not_stop_a_batch() {
    let (_host, mut netlink, bridge) = with_bridge();
    let mut requests: Vec<Request> = (0..1_000)
        .map(|number| route::add(&route(bridge, number)))
        .collect();
    // refusals in the middle of a packet, two in sequence, and the last one
    let bad = [5, 500, 501, 999];
    for position in bad {
        requests[position] = route::add(&route(bridge + 1000, position as u32));
    }
    let results = netlink.batch(&requests);
    assert_eq!(results.len(), requests.len());
    for (position, result) in results.iter().enumerate() {
        let refused = bad.contains(&position);
        assert_eq!(result.is_err(), refused, "{position}: {result:?}");
        if let Err(error) = result {
            let expected = format!("{}: no such device", requests[position].what());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
    // more refusals than the receive buffer holds at once
    let again = netlink.batch(&requests);
    assert_eq!(again.len(), 1_000);
    let exists = again
        .iter()
        .filter(|result| result.as_ref().is_err_and(|error| error.is_exists()));
    assert_eq!(exists.count(), 1_000 - bad.len());
    assert!(netlink.batch(&[]).is_empty());
    // the socket is still usable
    netlink
        .request(&link::create_bridge("another", None, false, None))
        .expect("bridge");
    let filter = Filter {
        oif: Some(bridge),
        table: Some(MAIN_TABLE),
        ipv6: Some(false),
    };
    assert_eq!(
        netlink.routes(filter).expect("routes").len(),
        1_000 - bad.len()
    );
}

#[scenario]
fn ten_thousand_routes_are_added_listed_and_deleted() {
    let (_host, mut netlink, bridge) = with_bridge();
    let entries = neighbours(bridge, MANY);
    let start = Instant::now();
    let requests: Vec<_> = entries.iter().map(neighbour::replace).collect();
    assert!(netlink.batch(&requests).iter().all(Result::is_ok));
    let routes: Vec<_> = (0..MANY).map(|number| route(bridge, number)).collect();
    let requests: Vec<_> = routes.iter().map(route::add).collect();
    assert!(netlink.batch(&requests).iter().all(Result::is_ok));
    let added = start.elapsed();
    let filter = Filter {
        oif: Some(bridge),
        table: Some(MAIN_TABLE),
        ipv6: Some(false),
    };
    let start = Instant::now();
    assert_eq!(netlink.routes(filter).expect("routes"), routes);
    let mut seen = netlink.neighbours(Some(bridge)).expect("neighbours");
    let read = start.elapsed();
    seen.retain(|entry| entry.is_permanent());
    seen.sort_by_key(|entry| entry.ip);
    assert_eq!(seen, entries);
    let start = Instant::now();
    let requests: Vec<_> = routes.iter().map(route::delete).collect();
    assert!(netlink.batch(&requests).iter().all(Result::is_ok));
    println!(
        "{MANY} routes and neighbours: added in {added:?}, read in {read:?}, routes deleted in {:?}",
        start.elapsed()
    );
    assert_eq!(netlink.routes(filter).expect("routes"), []);
}

/// Links are added and deleted while all are listed.
#[scenario]
fn interrupted_dump_is_never_short() {
    let (host, mut netlink, _) = with_bridge();
    let stay: Vec<String> = (0..60).map(|number| format!("stay{number}")).collect();
    let requests: Vec<_> = stay
        .iter()
        .map(|name| link::create_bridge(name, None, false, None))
        .collect();
    assert!(netlink.batch(&requests).iter().all(Result::is_ok));
    let (stop, mut turns) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            host.run(|| {
                let mut other = Netlink::open().expect("netlink");
                while !stop.load(Ordering::Relaxed) {
                    other
                        .request(&link::create_bridge("comes", None, false, None))
                        .expect("create");
                    other
                        .request(&link::delete_by_name("comes"))
                        .expect("delete");
                }
            })
        });
        let end = Instant::now() + std::time::Duration::from_millis(500);
        while Instant::now() < end {
            // a dump that is always interrupted is an error, never a shorter list
            let Ok(links) = netlink.links() else { continue };
            let mut names: Vec<_> = links.into_iter().map(|link| link.name).collect();
            names.retain(|name| name.starts_with("stay"));
            names.sort_by_key(|name| name["stay".len()..].parse::<u32>().expect("number"));
            assert_eq!(names, stay);
            turns += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(turns > 0, "no list in half a second");
}
