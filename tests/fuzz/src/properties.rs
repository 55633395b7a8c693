//! Targets of public parsers, with what must hold for what they accept.

use cni_conf::{AddResult, Error, NetConf, Version, net_conf};
use go_compat::{cidr as go_cidr, json as go_json};
use linux_net::Mac;
use std::sync::LazyLock;
use subnet_env::SubnetEnv;

const ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
FLANNEL_IPV6_NETWORK=fd00:10:244::/48\nFLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\n\
FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is written is read again. A family of which half is there is not written.
fn subnet_env(bytes: &[u8]) {
    let text = text(bytes);
    subnet_env::previous(&text);
    match SubnetEnv::parse(&text, "subnet.env") {
        Ok(env) => {
            let written = env.render();
            if let Ok(again) = SubnetEnv::parse(&written, "subnet.env") {
                assert_eq!(again.render(), written, "{text:?}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// CNI_ARGS, a line feed, and the configuration of bridge or flannel.
pub(crate) fn plugin_config(bytes: &[u8]) {
    static SUBNETS: LazyLock<SubnetEnv> =
        LazyLock::new(|| SubnetEnv::parse(ENV, "subnet.env").expect("the text above"));
    cni_config(bytes);
    for call in plugin::fuzz::calls(bytes) {
        bridge::fuzz::call(&call);
        flannel_cni::fuzz::call(&call, &SUBNETS);
    }
}

fn cni_config(bytes: &[u8]) {
    if let Ok(document) = net_conf::parse(bytes) {
        for needed in [false, true] {
            if let Ok(conf) = NetConf::read(&document, Version::ALL, needed) {
                let del = NetConf::read_for_del(&document, Version::ALL);
                assert_eq!(del.map(|del| del.name).ok(), Some(conf.name));
            }
        }
    }
}

/// The same of host-local and static.
pub(crate) fn ipam_config(bytes: &[u8]) {
    for call in plugin::fuzz::calls(bytes) {
        host_local::fuzz::call(&call);
        static_ipam::fuzz::call(&call);
    }
}

/// The same of the plugins that are chained after others.
pub(crate) fn chained_config(bytes: &[u8]) {
    for call in plugin::fuzz::calls(bytes) {
        portmap::fuzz::call(&call);
        bandwidth::fuzz::call(&call);
        firewall::fuzz::call(&call);
        tuning::fuzz::call(&call);
    }
}

/// What is read is written in every version that can express it, and is read again.
pub(crate) fn cni_result(bytes: &[u8]) {
    Error::from_json(bytes);
    runtime::fuzz::versions(bytes);
    let Ok(result) = AddResult::parse(bytes, Version::V1_0_0) else {
        return;
    };
    for version in Version::ALL {
        if let Ok(json) = result.to_json(*version) {
            let again = AddResult::parse(json.as_bytes(), *version);
            assert!(again.is_ok(), "{version:?}: {again:?}\n{json}");
        }
    }
}

/// The variables of a call, values in them and in configurations, and cnitool's command line.
pub(crate) fn variables(bytes: &[u8]) {
    plugin::fuzz::variables(bytes);
    cnitool::fuzz::command_line(&text(bytes));
    values(bytes);
}

/// The runtime's side: lists, and cached results.
pub(crate) fn conf_list(bytes: &[u8]) {
    runtime::fuzz::conf_list(bytes);
    runtime::fuzz::cached(bytes);
}

/// Arguments of flanneld, and what kubectl's configuration says.
pub(crate) fn command_line(bytes: &[u8]) {
    flanneld::fuzz::command_line(bytes);
    flanneld::fuzz::kubeconfig(bytes);
}

/// What Go would write is read as what Go would write the same.
pub(crate) fn json(bytes: &[u8]) {
    let Ok(document) = go_json::Document::parse(bytes) else {
        return;
    };
    drop(document.decode::<std::collections::BTreeMap<String, String>>());
    if let Ok(value) = document.decode::<serde_json::Value>() {
        let written = go_json::marshal(&value);
        let again = go_json::from_slice::<serde_json::Value>(written.as_bytes());
        let again = again.ok().map(|again| go_json::marshal(&again));
        assert_eq!(again.as_ref(), Some(&written));
    }
}

/// An address, a network, a MAC.
fn values(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(ip) = go_cidr::parse_ip(&text) {
        assert_eq!(go_cidr::parse_ip(&ip.to_string()), Ok(ip));
    }
    if let Ok(network) = go_cidr::parse(&text) {
        assert_eq!(go_cidr::parse(&network.to_string()), Ok(network));
        let masked = go_cidr::masked(network);
        assert_eq!(masked, go_cidr::masked(masked));
    }
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    if let Some(version) = Version::ALL.iter().find(|version| version.as_str() == text) {
        assert!(text.starts_with(['0', '1']), "{version:?}");
    }
}

/// Files of flanneld, and those by which it and plugins tell each other something.
pub(crate) fn node_files(bytes: &[u8]) {
    subnet_env(bytes);
    flanneld::fuzz::node_files(bytes);
    flanneld::fuzz::installed_files(bytes);
}

/// What plugins keep of attachments.
pub(crate) fn plugin_files(bytes: &[u8]) {
    host_local::fuzz::files(bytes);
    flannel_cni::fuzz::state(bytes);
    firewall::fuzz::record(bytes);
    tuning::fuzz::files(bytes);
    plugin::fuzz::executable(bytes);
}

/// What iptables-save and iptables-restore print, /proc/PID/mountinfo, and /proc/locks.
pub(crate) fn program_output(bytes: &[u8]) {
    packet_filter::fuzz::saved(bytes);
    packet_filter::fuzz::complaint(bytes);
    portmap::fuzz::saved_table(bytes);
    linux_net::fuzz::mountinfo(bytes);
}
