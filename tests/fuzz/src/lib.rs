//! Fuzz targets: every parser of what other programs, peers and the kernel write. They run on a
//! stable toolchain. A target starts from its folder in `corpus`: fixtures of the scenarios, and
//! messages captured from the kernel and from other programs.

mod coverage;
pub mod engine;
mod memory;
mod mutation;
mod properties;

use properties as property;

/// A parser, or several that read the same.
#[derive(Debug)]
pub struct Target {
    /// Its folder in `corpus`.
    pub name: &'static str,
    /// Must neither panic nor take longer than [`engine::SLOW`] nor need more memory than 32 MiB.
    pub run: fn(&[u8]),
}

/// Every target. CI runs each for a minute: a new one costs as much time as its share of a
/// processor.
pub const TARGETS: &[Target] = &[
    // what anybody on the network can send
    target("lease-api", flanneld::fuzz::lease_api),
    target("lease-request", flanneld::fuzz::lease_request),
    target("certificate", flanneld::fuzz::certificate),
    target("wireguard-packets", wireguard::fuzz::packets),
    target("tunnel-packets", data_path::fuzz::packets),
    // what stores send
    target("lease-watch", flanneld::fuzz::lease_watch),
    target("kube-watch", flanneld::fuzz::kube_watch),
    target("kube-list", flanneld::fuzz::kube_list),
    target("kube-annotations", flanneld::fuzz::kube_annotations),
    target("etcd-leases", flanneld::fuzz::etcd_leases),
    target("store-answer", flanneld::fuzz::store_answer),
    target("peers", flanneld::fuzz::peers),
    // what runtimes and administrators write
    target("plugin-config", property::plugin_config),
    target("ipam-config", property::ipam_config),
    target("chained-config", property::chained_config),
    target("cni-result", property::cni_result),
    target("variables", property::variables),
    target("conf-list", property::conf_list),
    target("net-conf", flanneld::fuzz::net_conf),
    target("lease-document", flanneld::fuzz::lease_document),
    target("command-line", property::command_line),
    target("json", property::json),
    // what is on the disk
    target("lease-store", flanneld::fuzz::lease_store),
    target("store-entries", flanneld::fuzz::lease_store_entries),
    target("node-files", property::node_files),
    target("data-path", flanneld::fuzz::data_path),
    target("plugin-files", property::plugin_files),
    // what the kernel and other programs write
    target("netlink", linux_net::fuzz::datagram),
    target("wireguard", linux_net::fuzz::wireguard),
    target("xfrm", linux_net::fuzz::xfrm),
    target("vici", flanneld::fuzz::vici),
    target("nft-reply", packet_filter::fuzz::reply),
    target("program-output", property::program_output),
    target("d-bus", firewall::fuzz::message),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short run that is the same each time.
    #[test]
    fn no_target_fails_within_some_executions() {
        for target in TARGETS {
            // some need a millisecond each: those with files, and those with a parser of options
            let count = match target.name {
                "lease-store" | "store-entries" => 100,
                // keys are computed without optimisation
                "wireguard-packets" => 100,
                "command-line" => 300,
                _ => 3000,
            };
            let run = engine::run(target, 1, engine::Limit::Executions(count), None);
            let executions = run.map(|report| report.executions);
            assert_eq!(executions, Ok(count), "{}", target.name);
        }
    }

    #[test]
    fn failures_are_found_and_keep_their_input() {
        let target = target("variables", |bytes| {
            assert!(!bytes.contains(&b'9'), "a nine");
        });
        let failure = engine::run(&target, 1, engine::Limit::Executions(3000), None).unwrap_err();
        assert!(failure.contains("a nine"), "{failure}");
    }
}
