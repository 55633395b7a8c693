//! The clock is set while nodes run, as on a board without a battery, or after a suspension. It is
//! that of the whole machine, which other scenarios measure with: these have a virtual machine of
//! their own.

use super::{
    change_of_backend::net_conf,
    cluster::{Cluster, DUAL},
    data_path::process,
};
use std::{thread, time::Duration};
use tests::{Case, case, kernel::is_virtual_machine, scenario, scenarios};

fn user_space_wireguard() -> String {
    net_conf(r#"{"Type":"wireguard","Userspace":true}"#)
}

fn shared_clock() -> Option<String> {
    (!is_virtual_machine())
        .then(|| "sets the clock: runs in the virtual machine (area clock)".to_owned())
}

/// Sets the clock by so many hours.
fn jump(cluster: &Cluster, hours: i64) {
    let seconds = hours * 60 * 60;
    let set = format!("date -s @$(($(date +%s) + {seconds}))");
    cluster.host(1).sh(&set);
}

/// Leases last 24 hours.
#[scenarios(unless = shared_clock)]
fn jumps_of_the_clock() -> Vec<Case> {
    let backends = [
        ("vxlan", DUAL.to_owned()),
        ("wireguard", user_space_wireguard()),
    ];
    let cases = backends.map(|(name, net_conf)| {
        case(
            &format!("clock_that_is_set_costs_no_lease_and_no_packet_by_{name}"),
            move || {
                let mut cluster = Cluster::new(2, &net_conf);
                let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
                cluster.ping_all(&pods);
                let subnets = [cluster.subnet(1), cluster.subnet(2)];
                let pings = cluster.ping(1, 2);
                for hours in [48, -96, 48] {
                    jump(&cluster, hours);
                    // renewals, resyncs and timers of sessions
                    thread::sleep(Duration::from_secs(10));
                    for node in [2, 1] {
                        cluster.stop(node);
                        cluster.start(node, &[]);
                        cluster.wait_ready(node);
                    }
                }
                pings.lose_nothing();
                assert_eq!([cluster.subnet(1), cluster.subnet(2)], subnets);
            },
        )
    });
    cases.into()
}

/// Its peers refuse what it begins, since its clock is behind: they begin.
#[scenario(unless = shared_clock)]
fn clock_that_is_set_back_cuts_no_process_of_wireguard_off_for_long() {
    let mut cluster = Cluster::new(2, &user_space_wireguard());
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    drop(pods);
    let pings = cluster.ping(2, 1);
    jump(&cluster, -1);
    let host = cluster.host(1);
    for device in ["flannel-wg", "flannel-wg-v6"] {
        host.sh(&format!("kill -9 {}", process(host, device)));
    }
    cluster.wait_ready(1);
    cluster.eventually_ping_all();
    // the others find out after 15 seconds without an answer (Rekey-Timeout and Keepalive-Timeout)
    pings.lose_at_most(50 * 25);
}
