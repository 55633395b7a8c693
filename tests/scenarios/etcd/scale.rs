//! Thousands of leases in etcd: several pages, in the memory that a node may use.

use super::cluster::{Cluster, PREFIX, V4};
use std::time::{Duration, Instant};
use tests::{etcd::without_etcd, process::eventually, scenario, usage::peak_memory};

/// Peak memory at 5,000 peers, in KiB.
const MAX_MEMORY: u64 = 30 * 1024;

#[scenario(unless = without_etcd)]
fn thousands_of_leases_are_programmed_within_30_mib() {
    // a debug build is ten times slower
    let optimised = !tests::binaries::folder().ends_with("debug");
    let peers: usize = if optimised { 5_000 } else { 1_500 };
    let net_conf = V4.replace("10.244.0.0/16", "10.0.0.0/8");
    let mut cluster = Cluster::new(1, &net_conf);
    let leases: Vec<_> = (0..peers).map(lease).collect();
    cluster.etcd.put_leased(&leases);
    let start = Instant::now();
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    eventually("every peer has a route", Duration::from_secs(60), || {
        let routes = cluster.host(1).sh("ip route show dev flannel.1");
        (routes.lines().count() == peers).then_some(())
    });
    let took = start.elapsed();
    let pid = cluster.daemon(1).pid();
    let peak = peak_memory(pid);
    println!("{peers} leases in etcd: {took:?} from the start, peak memory {peak} KiB");
    assert!(!optimised || peak <= MAX_MEMORY, "peak memory {peak} KiB");
    // all of them go at once: their common etcd lease is revoked
    let leases = cluster.etcd.ctl(&["lease", "list"]);
    let own = cluster.lease_id(&format!("{PREFIX}/subnets/{}", own_key(&cluster)));
    let common = leases
        .lines()
        .skip(1)
        .find(|id| *id != own)
        .expect("the common one");
    cluster.etcd.ctl(&["lease", "revoke", common]);
    eventually("every route is gone", Duration::from_secs(60), || {
        let routes = cluster.host(1).sh("ip route show dev flannel.1");
        routes.is_empty().then_some(())
    });
}

fn own_key(cluster: &Cluster) -> String {
    let subnet = cluster.env(1, "FLANNEL_SUBNET");
    subnet.replace(".1/24", ".0-24")
}

/// The key and the value of a lease.
fn lease(number: usize) -> (String, String) {
    let (high, low) = (0x80 | number >> 8, number & 0xff);
    let value = format!(
        r#"{{"PublicIP":"198.18.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0e:00:00:00:{high:02x}:{low:02x}"}}}}"#
    );
    (format!("{PREFIX}/subnets/10.{high}.{low}.0-24"), value)
}
