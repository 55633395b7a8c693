//! The Go flanneld on two nodes with one etcd, with each backend that it has.

use tests::{
    Etcd, GoFlanneld, Underlay,
    go_flanneld::without_etcd_and_go_flanneld,
    kernel::{without_esp, without_ipip, without_wireguard},
    scenario, subnet_env, underlay,
};

fn without_ipip_and_go() -> Option<String> {
    without_ipip().or_else(without_etcd_and_go_flanneld)
}

fn without_wireguard_and_go() -> Option<String> {
    without_wireguard().or_else(without_etcd_and_go_flanneld)
}

fn without_esp_and_go() -> Option<String> {
    without_esp().or_else(without_etcd_and_go_flanneld)
}

#[scenario(unless = without_etcd_and_go_flanneld)]
fn pods_of_two_go_nodes_reach_each_other() {
    reach_each_other(r#"{"Type":"vxlan"}"#);
}

#[scenario(unless = without_etcd_and_go_flanneld)]
fn pods_of_two_go_nodes_reach_each_other_by_host_gw() {
    reach_each_other(r#"{"Type":"host-gw"}"#);
}

#[scenario(unless = without_etcd_and_go_flanneld)]
fn pods_of_two_go_nodes_reach_each_other_by_udp() {
    reach_each_other(r#"{"Type":"udp"}"#);
}

#[scenario(unless = without_ipip_and_go)]
fn pods_of_two_go_nodes_reach_each_other_by_ipip() {
    reach_each_other(r#"{"Type":"ipip"}"#);
}

#[scenario(unless = without_wireguard_and_go)]
fn pods_of_two_go_nodes_reach_each_other_by_wireguard() {
    reach_each_other(r#"{"Type":"wireguard"}"#);
}

#[scenario(unless = without_esp_and_go)]
fn pods_of_two_go_nodes_reach_each_other_by_ipsec() {
    let psk = "0123456789abcdef".repeat(6);
    reach_each_other(&format!(r#"{{"Type":"ipsec","PSK":"{psk}"}}"#));
}

/// Each pod pings the other one.
fn reach_each_other(backend: &str) {
    let underlay = Underlay::new(2);
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    let net_conf =
        format!(r#"{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{backend}}}"#);
    etcd.put("/coreos.com/network/config", &net_conf);
    let endpoints = etcd.endpoints();
    let mut daemons: Vec<_> = underlay
        .hosts
        .iter()
        .map(|host| GoFlanneld::etcd(host, &endpoints))
        .collect();
    for daemon in &mut daemons {
        daemon.wait_ready();
    }
    let pods: Vec<_> = underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[0], &underlay.hosts[1]);
    subnet_env::eventually_pings(&pods[1], &underlay.hosts[0]);
    assert_eq!(etcd.keys("/coreos.com/network/subnets/").len(), 2);
}
