//! portmap with 0, 1 and 10 ports, on a node with 0 and 500 pods that have a port.

use crate::{
    contender::{Contender, hosts, rotation},
    measure::{Measure, Unit},
};
use tests::Host;

/// ADD and DEL with iptables, and with nftables for contenders that support it.
pub(super) fn run(contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    let mut measures = Vec::new();
    for backend in ["iptables", "nftables"] {
        let capable: Vec<_> = contenders
            .iter()
            .filter(|contender| {
                backend == "iptables" || contender.supports("portmap", "cni_hostport")
            })
            .cloned()
            .collect();
        for others in [0, 500] {
            let hosts = hosts(&capable);
            for (contender, host) in &hosts {
                populate(contender, host, backend, others);
            }
            for ports in [0, 1, 10] {
                measures.extend(one(&hosts, backend, others, ports, rounds.min(15)));
            }
        }
    }
    measures
}

fn one(
    hosts: &[(&Contender, Host)],
    backend: &str,
    others: usize,
    ports: usize,
    rounds: usize,
) -> Vec<Measure> {
    let with = format!("{ports} ports by {backend}, {others} other pods");
    let mut add = Measure::new(format!("portmap ADD, {with}"), Unit::Ms);
    let mut del = Measure::new(format!("portmap DEL, {with}"), Unit::Ms);
    for round in 0..rounds {
        for index in rotation(round, hosts.len()) {
            let (contender, host) = &hosts[index];
            let config = config(backend, 60_000 + round, 30_000, ports);
            let time = |verb| {
                host.run(|| {
                    contender
                        .call(
                            verb,
                            "portmap",
                            &format!("x{round}"),
                            "/run/netns/pod",
                            &config,
                        )
                        .timed()
                })
            };
            add.add_time(&contender.name, time("ADD"));
            del.add_time(&contender.name, time("DEL"));
        }
    }
    vec![add, del]
}

/// Adds `others` pods with one port each.
fn populate(contender: &Contender, host: &Host, backend: &str, others: usize) {
    host.sh("ip netns add pod && ip link add cni0 type bridge && ip addr add 10.88.0.1/16 dev cni0 && ip link set cni0 up");
    for number in 0..others {
        let config = config(backend, number, 10_000 + number, 1);
        host.run(|| {
            contender
                .call(
                    "ADD",
                    "portmap",
                    &format!("other{number}"),
                    "/run/netns/pod",
                    &config,
                )
                .timed()
        });
    }
}

/// The configuration of portmap for a pod with `ports` ports from `first` on.
fn config(backend: &str, number: usize, first: usize, ports: usize) -> String {
    let mappings: Vec<_> = (0..ports)
        .map(|port| {
            format!(
                r#"{{"hostPort":{},"containerPort":{},"protocol":"tcp"}}"#,
                first + port,
                80 + port
            )
        })
        .collect();
    let ip = format!("10.88.{}.{}", (number >> 8) & 255, number & 255);
    format!(
        r#"{{"cniVersion":"1.0.0","name":"bench","type":"portmap","backend":"{backend}","runtimeConfig":{{"portMappings":[{}]}},"prevResult":{{"cniVersion":"1.0.0","interfaces":[{{"name":"eth0","sandbox":"/run/netns/pod"}}],"ips":[{{"address":"{ip}/16","interface":0}}]}}}}"#,
        mappings.join(",")
    )
}
