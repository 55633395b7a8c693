//! The cost of ADD and DEL in processes, packets to the kernel and system calls, which do not
//! depend on the machine's speed. (The Go plugins: 2 processes, 19 to 28 sockets with one to two
//! requests each and 2,300 system calls; 13 processes with iptables.)

use super::node::{Node, V4, V6, conf};
use serde_json::{Value, json};
use tests::{Case, case, scenarios};

#[scenarios]
fn costs() -> Vec<Case> {
    let masquerade = |backend: &str| json!({ "ipMasq": true, "ipMasqBackend": backend });
    let case = |name: &str, subnets: &'static [&str], more: Value, add: Budget, del: Budget| {
        case(&format!("cost_is_within_the_budget/{name}"), move || {
            cost(&conf(subnets, more), add, del)
        })
    };
    vec![
        case("v4", &[V4], json!({}), Budget(1, 8, 150), Budget(1, 6, 110)),
        case(
            "dual",
            &[V4, V6],
            json!({}),
            Budget(1, 8, 205),
            Budget(1, 6, 130),
        ),
        case(
            "nftables",
            &[V4],
            masquerade("nftables"),
            Budget(1, 10, 165),
            Budget(1, 8, 115),
        ),
        case(
            "iptables",
            &[V4],
            masquerade("iptables"),
            Budget(2, 8, 220),
            Budget(3, 6, 140),
        ),
    ]
}

/// Processes, packets sent, and the plugin's own system calls from the read of its configuration.
#[derive(Clone, Copy)]
struct Budget(usize, usize, usize);

/// Of the second pod: the bridge exists.
fn cost(conf: &Value, add: Budget, del: Budget) {
    let node = Node::suite();
    node.attach("first", conf);
    node.host.pod("a");
    for (verb, budget) in [("ADD", add), ("DEL", del)] {
        node.traced_call(verb, "a", conf).ok();
        let trace = node.host.sh("cat /run/trace");
        let Budget(processes, packets, calls) = budget;
        let first = trace.split_inclusive(' ').next().expect("pid").to_owned();
        // an interrupted system call has two lines; the line of a signal is no call
        let own: Vec<&str> = trace
            .lines()
            .filter(|line| line.starts_with(&first))
            .skip_while(|line| !line.contains("read(0"))
            .filter(|line| !line.contains("resumed>") && !line.contains("--- "))
            .collect();
        let sent = own.iter().filter(|line| line.contains("sendto(")).count();
        let executed = trace.matches("execve(").count();
        println!(
            "{verb}: {executed} processes, {sent} packets, {} calls",
            own.len()
        );
        assert!(
            executed <= processes,
            "{verb}: {executed} processes\n{trace}"
        );
        assert!(sent <= packets, "{verb}: {sent} packets\n{trace}");
        assert!(own.len() <= calls, "{verb}: {} calls\n{trace}", own.len());
    }
}
