//! ADD and DEL of one pod: bridge -> host-local, and flannel -> bridge -> host-local of ours.

use super::bare;
use crate::{
    contender::{Contender, OURS, hosts, pods, rotation},
    measure::{Measure, Unit},
};
use tests::Host;

/// The configuration of every contender.
pub(super) const BRIDGE: &str = r#"{"cniVersion":"1.0.0","name":"bench","type":"bridge","bridge":"cni0","isDefaultGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.88.0.0/16"}]],"routes":[{"dst":"10.244.0.0/16"}]}}"#;
const FLANNEL: &str = r#"{"cniVersion":"1.0.0","name":"cbr0","type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}}"#;
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// Prepares a host: the bridge exists, a first pod was added and deleted.
fn warm_up(contender: &Contender, host: &Host, plugin: &str, config: &str) {
    host.sh("ip netns add warm && mkdir -p /run/flannel");
    host.run(|| std::fs::write("/run/flannel/subnet.env", SUBNET_ENV))
        .expect("subnet.env");
    for verb in ["ADD", "DEL"] {
        host.run(|| {
            contender
                .call(verb, plugin, "warm", "/run/netns/warm", config)
                .timed()
        });
    }
}

/// Without masquerade.
pub(super) fn plain(contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    let mut add = Measure::new("ADD bridge -> host-local, one pod", Unit::Ms);
    let mut del = Measure::new("DEL bridge -> host-local, one pod", Unit::Ms);
    let with_flannel = format!("{OURS}, with flannel");
    let mut runs: Vec<_> = hosts(contenders)
        .into_iter()
        .map(|(c, host)| (c, host, c.name.clone(), "bridge", BRIDGE))
        .collect();
    runs.push((
        &contenders[0],
        Host::new("flannel"),
        with_flannel,
        "flannel",
        FLANNEL,
    ));
    for (contender, host, _, plugin, config) in &runs {
        warm_up(contender, host, plugin, config);
    }
    let bare_host = Host::new("bare");
    let bridge = bare_host.run(bare::bridge);
    let bare_pods = pods(&bare_host, rounds);
    let paths: Vec<_> = runs.iter().map(|run| pods(&run.1, rounds)).collect();
    for round in 0..rounds {
        for index in rotation(round, runs.len()) {
            let ((contender, host, name, plugin, config), paths) = (&runs[index], &paths[index]);
            let id = format!("c{round}");
            let time = |verb| {
                host.run(|| {
                    contender
                        .call(verb, plugin, &id, &paths[round], config)
                        .timed()
                })
            };
            add.add_time(name, time("ADD"));
            del.add_time(name, time("DEL"));
        }
        add.add_time(
            "bare requests",
            bare_host.run(|| bare::attach(bridge, &bare_pods[round], round)),
        );
        del.add_time(
            "bare requests",
            bare_host.run(|| bare::detach(&bare_pods[round])),
        );
    }
    vec![add, del]
}

/// With masquerade, for each back end.
pub(super) fn masquerade(contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    ["iptables", "nftables"]
        .into_iter()
        .flat_map(|backend| masquerade_by(backend, contenders, rounds / 2))
        .collect()
}

fn masquerade_by(backend: &str, contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    let mut add = Measure::new(format!("ADD with masquerade by {backend}"), Unit::Ms);
    let mut del = Measure::new(format!("DEL with masquerade by {backend}"), Unit::Ms);
    let config = BRIDGE.replacen(
        '{',
        &format!("{{\"ipMasq\":true,\"ipMasqBackend\":\"{backend}\","),
        1,
    );
    let hosts = hosts(contenders);
    // Go plugins before 1.6 ignore ipMasqBackend and use iptables
    let runs: Vec<_> = hosts
        .iter()
        .filter(|(contender, _)| {
            backend == "iptables" || contender.supports("bridge", "ipMasqBackend")
        })
        .collect();
    for (contender, host) in &runs {
        warm_up(contender, host, "bridge", &config);
    }
    let paths: Vec<_> = runs.iter().map(|(_, host)| pods(host, rounds)).collect();
    for round in 0..rounds {
        for index in rotation(round, runs.len()) {
            let ((contender, host), paths) = (runs[index], &paths[index]);
            let id = format!("c{round}");
            let time = |verb| {
                host.run(|| {
                    contender
                        .call(verb, "bridge", &id, &paths[round], &config)
                        .timed()
                })
            };
            add.add_time(&contender.name, time("ADD"));
            del.add_time(&contender.name, time("DEL"));
        }
    }
    vec![add, del]
}
