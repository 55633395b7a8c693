//! Fuzz targets: every parser of what other programs, peers and the kernel write. They run on a
//! stable toolchain. A target starts from its folder in `corpus`: fixtures of the scenarios, and
//! messages captured from the kernel and from other programs.

pub mod engine;
mod mutation;
mod properties;

use properties as property;

/// A parser, or several that read the same.
#[derive(Debug)]
pub struct Target {
    /// Its folder in `corpus`.
    pub name: &'static str,
    /// Must neither panic nor take longer than [`engine::SLOW`].
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("lease-watch", flanneld::fuzz::lease_watch),
    target("lease-request", flanneld::fuzz::lease_request),
    target("lease-document", flanneld::fuzz::lease_document),
    target("net-conf", flanneld::fuzz::net_conf),
    target("etcd-lease", flanneld::fuzz::etcd_lease),
    target("kube-watch", flanneld::fuzz::kube_watch),
    target("kube-list", flanneld::fuzz::kube_list),
    target("kube-annotations", flanneld::fuzz::kube_annotations),
    target("subnet-env", property::subnet_env),
    target("cni-config", property::cni_config),
    target("cni-result", property::cni_result),
    target("cni-args", property::cni_args),
    target("json", property::json),
    target("cidr", property::cidr),
    target("netlink", linux_net::fuzz::datagram),
    target("nft-reply", packet_filter::fuzz::reply),
    target("iptables-save", packet_filter::fuzz::saved),
    target("reservation", host_local::fuzz::files),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short run that is the same each time.
    #[test]
    fn no_target_fails_within_thousands_of_executions() {
        for target in TARGETS {
            let run = engine::run(target, 1, engine::Limit::Executions(3000));
            assert_eq!(run, Ok(3000), "{}", target.name);
        }
    }

    #[test]
    fn failures_are_found_and_keep_their_input() {
        let target = target("cidr", |bytes| {
            assert!(!bytes.contains(&b'9'), "a nine");
        });
        let failure = engine::run(&target, 1, engine::Limit::Executions(3000)).unwrap_err();
        assert!(failure.contains("a nine"), "{failure}");
    }
}
