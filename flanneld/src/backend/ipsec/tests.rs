use super::*;
use crate::backend::fixtures;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn config(keys: &str) -> NetworkConfig {
    fixtures::config(&format!(r#"{{"Type":"ipsec"{keys}}}"#))
}

fn with_psk(keys: &str) -> NetworkConfig {
    config(&format!(r#","PSK":"{SECRET}"{keys}"#))
}

#[test]
fn keys_have_upstreams_names_and_defaults() {
    let keys = Keys::read(&with_psk("")).unwrap();
    assert!(!keys.udp_encap);
    assert_eq!(keys.esp_proposal, "aes128gcm16-sha256-prfsha256-ecp256");
    let other = with_psk(r#","udpencap":true,"espproposal":"aes256-sha256-modp4096""#);
    let keys = Keys::read(&other).unwrap();
    assert!(keys.udp_encap);
    assert_eq!(keys.esp_proposal, "aes256-sha256-modp4096");
    assert_eq!(keys.psk.0, SECRET);
}

#[test]
fn short_secrets_and_odd_proposals_are_refused_and_no_secret_is_shown() {
    let refusal = |config: &NetworkConfig| match Keys::read(config) {
        Ok(keys) => panic!("{keys:?}"),
        Err(error) => error.to_string(),
    };
    let text = refusal(&config(""));
    assert!(
        text.starts_with("config error, password is too short (Backend.PSK has 0 characters"),
        "{text}"
    );
    let short = &SECRET[1..];
    let text = refusal(&config(&format!(r#","PSK":"{short}""#)));
    assert!(
        text.contains("has 95 characters") && !text.contains(short),
        "{text}"
    );
    let text = refusal(&config(r#","PSK":1234567890"#));
    assert!(
        text.contains("PSK") && !text.contains("1234567890"),
        "{text}"
    );
    for proposal in ["", "aes128 sha256", "aes\\n", "aes128gcm16\\u0000"] {
        let text = refusal(&with_psk(&format!(r#","ESPProposal":"{proposal}""#)));
        assert!(text.contains("is not a proposal of strongSwan"), "{text}");
    }
    let text = refusal(&with_psk(r#","UDPEncap":"yes""#));
    assert!(
        text.starts_with("error decoding IPSEC backend config: "),
        "{text}"
    );
    let backend = fixtures::backend(&with_psk("")).unwrap();
    let shown = format!(
        "{backend:?} {:?} {:?}",
        with_psk(""),
        Keys::read(&with_psk(""))
    );
    assert!(!shown.contains("0123456789"), "{shown}");
}

#[test]
fn pods_get_what_the_tunnel_leaves() {
    let mtu = |config: &NetworkConfig| {
        fixtures::backend(config)
            .unwrap()
            .pod_mtu(&fixtures::underlay())
    };
    let v4_only = |keys: &str| NetworkConfig {
        enable_ipv6: false,
        ..with_psk(keys)
    };
    assert_eq!(mtu(&v4_only("")), 1423);
    assert_eq!(mtu(&v4_only(r#","UDPEncap":true"#)), 1415);
    // the outer header may be IPv6's
    assert_eq!(mtu(&with_psk("")), 1403);
    assert_eq!(mtu(&with_psk(r#","UDPEncap":true"#)), 1395);
}

fn plan(underlay: &Underlay) -> Plan {
    let config = with_psk("");
    let backend = fixtures::backend(&config).unwrap();
    let leases = [1, 2, 3].map(|number| fixtures::lease(number, "ipsec"));
    backend.plan(&Input {
        config: &config,
        underlay,
        own: &fixtures::lease(1, "ipsec"),
        leases: &fixtures::decoded(&*backend, &leases),
        routes: &fixtures::on_link(&["172.31.0.0/24", "fd31::/64"]),
    })
}

#[test]
fn each_peer_has_three_policies_in_each_family_and_no_other_entry() {
    let plan = plan(&fixtures::underlay());
    let shown: Vec<_> = plan.state.policies.iter().map(Policy::to_string).collect();
    assert_eq!(shown.len(), 12);
    for policy in [
        "src 10.244.1.0/24 dst 10.244.2.0/24 dir out, esp tunnel 172.31.0.1 -> 172.31.0.2 reqid 11",
        "src 10.244.2.0/24 dst 10.244.1.0/24 dir in, esp tunnel 172.31.0.2 -> 172.31.0.1 reqid 11",
        "src 10.244.2.0/24 dst 10.244.1.0/24 dir fwd, esp tunnel 172.31.0.2 -> 172.31.0.1 reqid 11",
        "src fd00:10:244:1::/64 dst fd00:10:244:3::/64 dir out, esp tunnel fd31::1 -> fd31::3 reqid 11",
    ] {
        assert!(
            shown.iter().any(|shown| shown == policy),
            "{policy}: {shown:#?}"
        );
    }
    assert!(plan.state.devices.is_empty() && plan.state.routes.is_empty());
    assert_eq!((plan.peers.len(), plan.skipped.len()), (4, 0));
}

#[test]
fn tunnels_have_the_ends_of_the_policies() {
    let tunnels = tunnels(&plan(&fixtures::underlay()).state);
    assert_eq!(tunnels.len(), 4);
    let first = Tunnel {
        own_address: [172, 31, 0, 1].into(),
        own_subnet: "10.244.1.0/24".parse().unwrap(),
        peer_address: [172, 31, 0, 2].into(),
        peer_subnet: "10.244.2.0/24".parse().unwrap(),
    };
    assert_eq!(tunnels[0], first);
}

#[test]
fn lease_has_no_data_and_behind_a_nat_the_tunnel_ends_at_the_hosts_address() {
    let underlay = Underlay {
        address: Some([10, 0, 0, 5].into()),
        ..fixtures::underlay()
    };
    let plan = plan(&underlay);
    let out = plan
        .state
        .policies
        .iter()
        .find(|policy| policy.direction == Direction::Out);
    let template = out.and_then(|policy| policy.template.clone()).unwrap();
    assert_eq!(template.src.to_string(), "10.0.0.5");
    let attrs = fixtures::backend(&with_psk(""))
        .unwrap()
        .lease_attrs(&underlay);
    assert_eq!(attrs.backend_type, "ipsec");
    assert_eq!((attrs.backend_data, attrs.backend_v6_data), (None, None));
    assert_eq!(attrs.public_ip, underlay.public_ip);
}
