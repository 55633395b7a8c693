//! Targets of public parsers, with what must hold for what they accept.

use cni_conf::{AddResult, Error, NetConf, Version, args, net_conf};
use go_compat::{cidr as go_cidr, json as go_json};
use subnet_env::SubnetEnv;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is written is read again. A family of which half is there is not written.
pub(crate) fn subnet_env(bytes: &[u8]) {
    let text = text(bytes);
    subnet_env::previous(&text);
    if let Ok(env) = SubnetEnv::parse(&text, "subnet.env")
        && let written = env.render()
        && let Ok(again) = SubnetEnv::parse(&written, "subnet.env")
    {
        assert_eq!(again.render(), written, "{text:?}");
    }
}

pub(crate) fn cni_config(bytes: &[u8]) {
    if let Ok(document) = net_conf::parse(bytes) {
        for needed in [false, true] {
            drop(NetConf::read(&document, Version::ALL, needed));
        }
    }
}

/// What is read is written in every version that can express it, and is read again.
pub(crate) fn cni_result(bytes: &[u8]) {
    Error::from_json(bytes);
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

pub(crate) fn cni_args(bytes: &[u8]) {
    drop(args::load(&text(bytes), &["IP", "GATEWAY", "MAC"]));
}

pub(crate) fn json(bytes: &[u8]) {
    drop(go_json::Document::parse(bytes));
}

pub(crate) fn cidr(bytes: &[u8]) {
    let text = text(bytes);
    drop(go_cidr::parse_ip(&text));
    if let Ok(network) = go_cidr::parse(&text) {
        assert_eq!(go_cidr::parse(&network.to_string()).ok(), Some(network));
    }
}
