//! What an ADD and a DEL cost in processes, packets to the kernel and system calls: numbers that no machine's speed changes.
//! (The Go plugins: 2 processes, 19 to 28 sockets with a request or two each and 2,300 calls; 13 processes with iptables.)

use super::node::{Node, V4, V6, conf};
use serde_json::{Value, json};
use tests::{Case, case};

pub fn cases() -> Vec<Case> {
    let masquerade = |backend: &str| json!({ "ipMasq": true, "ipMasqBackend": backend });
    let case = |name: &str, subnets: &'static [&str], more: Value, add: Budget, del: Budget| {
        case(&format!("bridge/cost/{name}"), move || {
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

/// Processes, packets sent, and system calls of the plugin itself between reading its configuration and its end.
#[derive(Clone, Copy)]
struct Budget(usize, usize, usize);

/// The second pod's, so that the bridge is there.
fn cost(conf: &Value, add: Budget, del: Budget) {
    let node = Node::ours();
    node.attach("first", conf);
    node.host.pod("a");
    for (verb, budget) in [("ADD", add), ("DEL", del)] {
        node.traced_call(verb, "a", conf).ok();
        let trace = node.host.sh("cat /run/trace");
        let Budget(processes, packets, calls) = budget;
        let first = trace.split_inclusive(' ').next().expect("pid").to_owned();
        // a call that another thread's interrupts has two lines; a signal is no call
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
