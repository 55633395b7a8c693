//! Namespaces and sysctls.

use linux_net::{
    NetNs, Netlink,
    in_use::{Here, InUse, inode},
    link, sysctl,
};
use nix::sys::stat::fstat;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tests::{Host, process::eventually, scenario};

/// Device and inode of a namespace.
fn identity(ns: &NetNs) -> (u64, u64) {
    let stat = fstat(ns).expect("fstat");
    (stat.st_dev, stat.st_ino)
}

#[scenario]
fn a_thread_returns_from_another_namespace() {
    let host = Host::new("a");
    let pod = host.pod("p");
    host.run(|| {
        let current = || NetNs::current().expect("current namespace");
        let home = current();
        let inside = NetNs::open(pod.path().as_ref()).expect("pod");
        assert!(identity(&home) != identity(&inside));
        let here = inside.run(current).expect("run");
        assert!(identity(&here) == identity(&inside));
        assert!(identity(&current()) == identity(&home));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let broken = std::panic::catch_unwind(|| inside.run(|| panic!("inside")));
        std::panic::set_hook(hook);
        assert!(broken.is_err());
        assert!(identity(&current()) == identity(&home));
        let mut netlink = Netlink::open_in(&inside).expect("netlink");
        netlink
            .request(&link::create_bridge("in-pod", None, false, None))
            .expect("bridge");
        let text = NetNs::open("/run/netns/none".as_ref())
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "failed to Statfs \"/run/netns/none\": no such file or directory"
        );
    });
    pod.sh("ip link show in-pod");
    assert!(!host.try_sh("ip link show in-pod").status.success());
}

/// Hosts that one machine simulates have links with the same indices, and pods with the same
/// addresses.
#[scenario]
fn a_pod_of_another_host_is_not_taken_for_one_of_this() {
    let hosts = ["a", "b"].map(Host::new);
    let pods = hosts.each_ref().map(|host| {
        let pod = host.pod("p");
        host.sh("ip link add veth7 index 77 type veth peer name eth0 index 78 netns p");
        pod.sh("ip addr add 10.1.2.3/24 dev eth0");
        pod
    });
    let inodes = pods.each_ref().map(|pod| {
        pod.run(|| {
            NetNs::current()
                .and_then(|netns| netns.inode())
                .expect("inode")
        })
    });
    let with_address = |host: &Host| {
        host.run(|| {
            let (here, namespaces) = (Here::read().expect("links"), InUse::read().expect("/proc"));
            let ip = "10.1.2.3".parse().expect("address");
            let found = namespaces.with_address(ip, &here, &[], |end| end.name == "veth7");
            found.expect("known").and_then(inode)
        })
    };
    let peer = |host: &Host| {
        host.run(|| {
            let mut netlink = Netlink::open().expect("socket");
            let veth = netlink.link_by_name("veth7").expect("links")?;
            let namespaces = InUse::read().expect("/proc");
            let found = namespaces.peer_of(&veth, &mut netlink).expect("known");
            found.and_then(inode)
        })
    };
    for (host, inode) in hosts.iter().zip(inodes) {
        assert_eq!((with_address(host), peer(host)), (Some(inode), Some(inode)));
    }
    pods[0].delete();
    let has_ended = || with_address(&hosts[0]).is_none().then_some(());
    eventually("the first pod ends", Duration::from_secs(20), has_ended);
    assert_eq!(peer(&hosts[0]), None);
    assert_eq!(with_address(&hosts[1]), Some(inodes[1]));
}

/// Threads that end meanwhile, each in the mount namespace that shows another network namespace, do
/// not make a search unsure.
#[scenario]
fn threads_that_end_stop_no_search() {
    let (host, others) = (Host::new("a"), ["b", "c", "d", "e"].map(Host::new));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for other in &others {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    other.sh("ip netns add brief && ip netns del brief");
                }
            });
        }
        host.run(|| {
            let ip = "10.1.2.99".parse().expect("address");
            let found = (0..1200).map(|_| {
                let here = Here::read().expect("links");
                let namespaces = InUse::read().expect("/proc");
                let found = namespaces.with_address(ip, &here, &[], |_| true);
                found.map(|found| found.is_some())
            });
            let unsure: Vec<_> = found.filter(|found| !matches!(found, Ok(false))).collect();
            done.store(true, Ordering::Relaxed);
            assert!(unsure.is_empty(), "{unsure:?}");
        });
    });
}

/// Another mount over its folder hides a namespace that nothing else holds.
#[scenario]
fn a_hidden_namespace_is_in_use_and_stops_no_search() {
    let host = Host::new("a");
    let made = host.sh("ip netns add hidden && stat -Lc %i /run/netns/hidden");
    let number = made.trim().parse().expect("inode");
    let read = || InUse::read().expect("/proc");
    let cookie = host.run(|| read().cookie(number));
    host.sh("mount -t tmpfs none /run/netns");
    host.run(|| {
        let (here, namespaces) = (Here::read().expect("links"), read());
        assert!(namespaces.contains(number));
        let ip = "10.1.2.99".parse().expect("address");
        let found = namespaces.with_address(ip, &here, &[], |_| true);
        assert_eq!(found.expect("known"), None);
        assert_eq!(namespaces.survey(&here).unseen, None);
        assert_eq!(namespaces.cookie(number), None);
    });
    host.sh("umount /run/netns");
    assert_eq!(host.run(|| read().cookie(number)), cookie);
}

#[scenario]
fn sysctls_are_written_only_if_they_differ() {
    let host = Host::new("a");
    host.sh("ip link add eth0.5 type bridge");
    host.run(|| {
        sysctl::set("net/ipv4/conf/eth0.5/forwarding", "0").expect("set");
        assert_eq!(
            sysctl::get("net/ipv4/conf/eth0.5/forwarding").expect("get"),
            "0"
        );
        let text = sysctl::get("net/ipv4/conf/none/forwarding")
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "read sysctl net/ipv4/conf/none/forwarding: no such file or directory"
        );
        let refused = sysctl::set("net/ipv4/ip_forward", "many")
            .unwrap_err()
            .to_string();
        assert_eq!(
            refused,
            "write sysctl net/ipv4/ip_forward=many: invalid argument"
        );
    });
    assert_eq!(
        host.sh("cat /proc/sys/net/ipv4/conf/eth0.5/forwarding"),
        "0\n"
    );
    host.sh("mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys");
    host.run(|| {
        sysctl::set("net/ipv4/ip_forward", "1").expect("set already");
        assert!(sysctl::set("net/ipv4/ip_forward", "0").is_err());
    });
}
