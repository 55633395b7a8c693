//! docs/first-cluster.md and docs/firewall.md: three machines from nothing, until a packet arrives.

use super::NODES;
use tests::{
    page::{Machines, Page},
    scenario,
};

const PAGE: &str = "first-cluster.md";
/// A packet filter that allows a shell and nothing else, as administrators have it.
const FILTER: &str = "nft -f - <<'END'
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        tcp dport 22 accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
    }
}
END";

/// The addresses of the example and those of the pod on a node.
fn addresses(machines: &Machines, node: &str) -> [(&'static str, String); 2] {
    let links = machines.sh(node, "ip -n pod -j addr show dev eth0 scope global");
    let links: serde_json::Value = serde_json::from_str(&links).expect("JSON");
    let address = |family: &str| {
        let addresses = links[0]["addr_info"].as_array().expect("addresses");
        let mut of_family = addresses.iter().filter(|one| one["family"] == family);
        let address = of_family.next().expect(family)["local"].as_str();
        address.expect("an address").to_owned()
    };
    [
        ("10.244.91.2", address("inet")),
        ("fd00:10:244:5b::2", address("inet6")),
    ]
}

#[scenario]
fn first_cluster_is_up_by_the_commands_of_its_page() {
    let machines = Machines::new(&NODES);
    let (page, firewall) = (Page::open(PAGE), Page::open("firewall.md"));
    for node in NODES {
        machines.sh(node, FILTER);
    }
    for section in ["Build and install", "Certificates", "Configuration"] {
        page.run(section, &machines, &[]);
    }
    firewall.run("nftables", &machines, &[]);
    page.run("Start", &machines, &[]);
    for node in NODES {
        let limits = machines.sh(node, "cat /proc/$(cat /run/units/flanneld.pid)/limits");
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let words: Vec<_> = files.expect("a limit").split_whitespace().collect();
        assert_eq!(words[3], words[4], "the daemon may open as many as it gets");
        assert!(
            words[4].parse::<u32>().expect("a number") <= 65_536,
            "that of the unit"
        );
    }
    page.run("Check", &machines, &[]);

    page.run("Two pods", &machines, &[]);

    let pod = addresses(&machines, "node-2");
    let pod = pod
        .each_ref()
        .map(|(example, real)| (*example, real.as_str()));
    page.run("A packet from node to node", &machines, &pod);
    let pings = machines.sh(
        "node-1",
        &format!("ip netns exec pod ping -n -c1 {}", pod[0].1),
    );
    assert!(pings.contains("ttl=62 "), "{pings}");

    // as the page says: without the rules no packet arrives, and every node is ready
    machines.sh(
        "node-2",
        "nft list table inet filter > /run/filter && nft flush chain inet filter input \
         && nft add rule inet filter input iif lo accept",
    );
    let ping = format!("ip netns exec pod ping -n -c1 -W1 {}", pod[0].1);
    assert!(!machines.try_sh("node-1", &ping).status.success());
    for node in NODES {
        machines.sh(node, "curl -sf http://127.0.0.1:8081/readyz");
    }
    machines.sh(
        "node-2",
        "nft delete table inet filter && nft -f /run/filter",
    );

    page.run("Remove the pods", &machines, &[]);
    for node in ["node-1", "node-2"] {
        let left = machines.sh(
            node,
            "ip -o link show master cni0; ls /var/lib/cni/networks/cbr0",
        );
        assert!(
            !left.contains("veth") && !left.contains("10.244."),
            "{left}"
        );
    }
    let log = page.run("What an error looks like", &machines, &[]);
    assert!(log.contains("ready"), "{log}");
}
