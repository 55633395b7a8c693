use super::*;
use crate::{
    backend::fixtures::{self, underlay},
    model::{
        Family,
        host_state::HostState,
        lease::{Lease, LeaseAttrs},
    },
    underlay::UnderlayRoutes,
};
use linux_net::wireguard::PresharedKey;
use std::time::SystemTime;

const PRIVATE: [u8; 32] = [0x48; 32];
const PSK: &str = "KBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Nnc=";

/// The backend without a file for its key.
pub(in crate::backend) fn without_file(config: &NetworkConfig) -> Arc<dyn Backend> {
    Arc::new(backend_of(config).unwrap())
}

fn backend_of(config: &NetworkConfig) -> Result<WireguardBackend, super::super::Error> {
    let settings = Settings::read(config)?;
    let key = PrivateKey::new(PRIVATE);
    Ok(WireguardBackend::with_key(config, settings, key))
}

fn config(keys: &str) -> NetworkConfig {
    fixtures::config(&format!(r#"{{"Type":"wireguard"{keys}}}"#))
}

fn backend(keys: &str) -> WireguardBackend {
    backend_of(&config(keys)).unwrap()
}

fn refusal(keys: &str) -> String {
    backend_of(&config(keys)).unwrap_err().to_string()
}

fn one_family(ipv6: bool, keys: &str) -> NetworkConfig {
    let network = match ipv6 {
        false => r#""Network":"10.244.0.0/16""#,
        true => r#""EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48""#,
    };
    let text = format!(r#"{{{network},"Backend":{{"Type":"wireguard"{keys}}}}}"#);
    NetworkConfig::parse(&text).unwrap()
}

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

/// Node `number` with these addresses, keys and ports.
fn lease(number: u8, ips: (&str, &str), key: PublicKey, ports: (u16, u16)) -> Lease {
    let data = |port| json!({"PublicKey": key.to_string(), "Port": port});
    Lease {
        subnets: format!("10.244.{number}.0-24&fd00:10:244:{number}::-64")
            .parse()
            .unwrap(),
        attrs: LeaseAttrs {
            public_ip: Some(ips.0.parse().unwrap()),
            public_ipv6: Some(ips.1.parse().unwrap()),
            backend_type: "wireguard".to_owned(),
            backend_data: Some(data(ports.0)),
            backend_v6_data: Some(data(ports.1)),
        },
        expiration: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - u64::from(number))),
    }
}

/// A node that publishes what Go flannel does.
fn go(number: u8) -> Lease {
    let ips = (format!("172.31.0.{number}"), format!("fd31::{number}"));
    lease(number, (&ips.0, &ips.1), key(number), (51820, 51821))
}

fn plan_of(config: &NetworkConfig, own: &Lease, leases: &[Lease]) -> Plan {
    let backend = backend_of(config).unwrap();
    backend.plan(&Input {
        config,
        underlay: &underlay(),
        own,
        leases: &fixtures::decoded(&backend, leases),
        routes: &UnderlayRoutes::default(),
    })
}

fn plan(keys: &str, leases: &[Lease]) -> Plan {
    plan_of(&config(keys), &go(1), leases)
}

/// `key endpoint allowed-ips` of each peer, as `wg show` has them.
fn peers(state: &HostState, device: &str) -> Vec<String> {
    let wireguard = state.devices[device].wireguard.as_ref().unwrap();
    let text = |(key, peer): (&PublicKey, &Arc<Peer>)| {
        let nets: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        format!("{} {} {}", key.0[0], peer.endpoint.unwrap(), nets.join(","))
    };
    wireguard.peers.iter().map(text).collect()
}

fn routes(plan: &Plan) -> Vec<String> {
    let routes = plan.state.routes.iter();
    routes
        .map(|route| format!("{} {} {:?}", route.dst, route.device, route.gateway))
        .collect()
}

#[test]
fn separate_mode_has_a_device_a_route_and_a_peer_for_each_family() {
    let plan = plan("", &[go(1), go(2)]);
    assert_eq!(
        routes(&plan),
        [
            "10.244.0.0/16 flannel-wg None",
            "fd00:10:244::/48 flannel-wg-v6 None"
        ]
    );
    let devices: Vec<_> = plan.state.devices.keys().map(ToString::to_string).collect();
    assert_eq!(devices, ["flannel-wg", "flannel-wg-v6"]);
    for (device, port, address, expected) in [
        (
            "flannel-wg",
            51820,
            "10.244.1.0/32",
            "2 172.31.0.2:51820 10.244.2.0/24",
        ),
        (
            "flannel-wg-v6",
            51821,
            "fd00:10:244:1::/128",
            "2 [fd31::2]:51821 fd00:10:244:2::/64",
        ),
    ] {
        assert_eq!(peers(&plan.state, device), [expected]);
        let device = &plan.state.devices[device];
        assert_eq!(device.addresses, [address.parse().unwrap()].into());
        let interface = &device.wireguard.as_ref().unwrap().interface;
        assert_eq!(interface.listen_port, port);
        assert_eq!(interface.private_key, Some(PrivateKey::new(PRIVATE)));
        assert_eq!((device.link.mtu, device.link.mac), (1420, None));
    }
    let planned: Vec<_> = plan.peers.iter().map(|peer| peer.public_ip).collect();
    let expected: [IpAddr; 2] = ["172.31.0.2", "fd31::2"].map(|ip| ip.parse().unwrap());
    assert_eq!(planned, expected);
    assert_eq!(plan.skipped, []);
}

#[test]
fn published_data_has_upstreams_bytes_and_the_open_ports() {
    let public = key::public(&PrivateKey::new(PRIVATE));
    let data = |config: &NetworkConfig| {
        let attrs = backend_of(config).unwrap().lease_attrs(&underlay());
        assert_eq!(attrs.backend_type, "wireguard");
        let json: Value = serde_json::to_value(&attrs).unwrap();
        let text = serde_json::to_string(&attrs).unwrap();
        let port = |key: &str| json[key]["Port"].as_u64();
        (text, [port("BackendData"), port("BackendV6Data")])
    };
    let (text, ports) = data(&config(""));
    assert_eq!(ports, [Some(51820), Some(51821)]);
    let expected = format!(
        r#""BackendData":{{"PublicKey":"{public}","Port":51820}},"BackendV6Data":{{"PublicKey":"{public}","Port":51821}}"#
    );
    assert!(text.contains(&expected), "{text}");
    for mode in ["auto", "ipv4", "ipv6"] {
        let (_, ports) = data(&config(&format!(r#","Mode":"{mode}","ListenPort":7"#)));
        assert_eq!(ports, [Some(7), Some(7)], "{mode}");
    }
    assert_eq!(data(&one_family(false, "")).1, [Some(51820), None]);
    assert_eq!(data(&one_family(true, "")).1, [None, Some(51821)]);
}

#[test]
fn single_tunnel_has_both_families_and_goes_where_a_go_peer_listens() {
    for (mode, endpoint) in [
        ("auto", "172.31.0.2:51820"),
        ("ipv4", "172.31.0.2:51820"),
        // Go publishes 51821 and opens 51820
        ("ipv6", "[fd31::2]:51820"),
    ] {
        let plan = plan(&format!(r#","Mode":"{mode}""#), &[go(2)]);
        let devices: Vec<_> = plan.state.devices.keys().map(ToString::to_string).collect();
        assert_eq!(devices, ["flannel-wg"], "{mode}");
        let expected = format!("2 {endpoint} 10.244.2.0/24,fd00:10:244:2::/64");
        assert_eq!(peers(&plan.state, "flannel-wg"), [expected], "{mode}");
        assert_eq!(
            routes(&plan),
            [
                "10.244.0.0/16 flannel-wg None",
                "fd00:10:244::/48 flannel-wg None"
            ]
        );
        assert_eq!(plan.state.devices["flannel-wg"].addresses.len(), 2);
        let outer: IpAddr = endpoint.parse::<SocketAddr>().unwrap().ip();
        assert!(plan.peers.len() == 2 && plan.peers.iter().all(|peer| peer.public_ip == outer));
    }
}

#[test]
fn ports_of_peers_are_those_that_they_open() {
    let port = |keys: &str, ports| {
        let peer = lease(2, ("172.31.0.2", "fd31::2"), key(2), ports);
        let state = plan(keys, &[peer]).state;
        let wireguard = state.devices["flannel-wg"].wireguard.as_ref().unwrap();
        wireguard.peers[&key(2)].endpoint.unwrap().port()
    };
    assert_eq!(port("", (7, 8)), 7);
    assert_eq!(port("", (0, 0)), 51820, "none is published");
    assert_eq!(port(r#","Mode":"ipv6","ListenPort":9"#, (0, 0)), 9);
    assert_eq!(port(r#","Mode":"ipv6""#, (7, 8)), 7);
}

#[test]
fn single_tunnel_without_ipv4_opens_and_dials_listen_port() {
    let config = one_family(true, r#","Mode":"auto""#);
    let v6_only = |number, port| {
        let mut lease = lease(number, ("172.31.0.2", "fd31::2"), key(number), (0, port));
        lease.subnets.v4 = None;
        lease.attrs.public_ip = None;
        lease.attrs.backend_data = None;
        lease
    };
    let mut own = v6_only(1, 51820);
    own.attrs.public_ipv6 = Some("fd31::1".parse().unwrap());
    // 51821 is what Go publishes, and not what it opens
    for (published, dialled) in [(51821, 51820), (51820, 51820), (7, 7)] {
        let plan = plan_of(&config, &own, &[v6_only(2, published)]);
        let expected = format!("2 [fd31::2]:{dialled} fd00:10:244:2::/64");
        assert_eq!(peers(&plan.state, "flannel-wg"), [expected]);
        // never a default route
        assert_eq!(routes(&plan), ["fd00:10:244::/48 flannel-wg None"]);
    }
}

#[test]
fn auto_takes_ipv6_between_public_addresses_if_ipv4_is_private() {
    let outer = |own_v6: &str, v4: &str, v6: &str| {
        let own = lease(1, ("172.31.0.1", own_v6), key(1), (51820, 51820));
        let peer = lease(2, (v4, v6), key(2), (51820, 51820));
        let state = plan_of(&config(r#","Mode":"auto""#), &own, &[peer]).state;
        let wireguard = state.devices["flannel-wg"].wireguard.as_ref().unwrap();
        wireguard.peers[&key(2)].endpoint.unwrap().is_ipv6()
    };
    assert!(outer("2001:db8::1", "10.0.0.2", "2001:db8::2"));
    assert!(!outer("2001:db8::1", "203.0.113.2", "2001:db8::2"));
    assert!(!outer("2001:db8::1", "10.0.0.2", "fd31::2"));
    assert!(!outer("fd31::1", "10.0.0.2", "2001:db8::2"));
}

#[test]
fn one_family_has_one_device() {
    let plan = plan_of(&one_family(false, ""), &go(1), &[go(2)]);
    assert_eq!(routes(&plan), ["10.244.0.0/16 flannel-wg None"]);
    assert_eq!(plan.state.devices.len(), 1);
    for mode in ["auto", "ipv4"] {
        let keys = format!(r#","Mode":"{mode}""#);
        let plan = plan_of(&one_family(false, &keys), &go(1), &[go(2)]);
        let expected = ["2 172.31.0.2:51820 10.244.2.0/24"];
        assert_eq!(peers(&plan.state, "flannel-wg"), expected, "{mode}");
    }
}

#[test]
fn keys_of_the_configuration_reach_each_peer() {
    let keys = format!(r#","psk":"{PSK}","persistentkeepaliveinterval":25,"mtu":1400"#);
    let state = plan(&keys, &[go(2)]).state;
    let device = &state.devices["flannel-wg"];
    assert_eq!(device.link.mtu, 1320);
    let peer = &device.wireguard.as_ref().unwrap().peers[&key(2)];
    let psk: PresharedKey = PSK.parse().unwrap();
    assert_eq!((&peer.preshared_key, peer.keepalive), (&Some(psk), 25));
    let backend = backend(&keys);
    assert_eq!(backend.pod_mtu(&underlay()), 1320);
    let text = format!("{backend:?} {state:?}");
    assert!(
        !text.contains(PSK) && !text.contains("25, 26, 27"),
        "{text}"
    );
    assert!(!text.contains("72, 72, 72"), "{text}");
}

#[test]
fn configuration_that_cannot_work_is_refused_with_the_key() {
    for (keys, text) in [
        (r#","Mode":"Separate""#, "no valid Mode configured"),
        (r#","Mode":"""#, "no valid Mode configured"),
        (r#","PSK":"c2VjcmV0""#, "Backend.PSK cannot be used"),
        (r#","PSK":1234567890"#, "PSK: it is not a string"),
        (r#","ListenPort":0"#, "Backend.ListenPort is 0"),
        (r#","ListenPortV6":0"#, "Backend.ListenPortV6 is 0"),
        (r#","ListenPort":51821"#, "both 51821"),
        (r#","ListenPort":70000"#, "error decoding wireguard"),
        (r#","PersistentKeepaliveInterval":65536"#, "65536"),
        (r#","PersistentKeepaliveInterval":-1"#, "-1"),
        (r#","MTU":1359"#, "at least 1360"),
        (r#","Userspace":"yes""#, "error decoding wireguard"),
    ] {
        let error = refusal(keys);
        assert!(error.contains(text), "{keys}: {error}");
        assert!(!error.contains("c2Vj"), "{error}");
        assert!(!error.contains("1234567890"), "{error}");
    }
    for (ipv6, mode, key) in [(true, "ipv4", "EnableIPv4"), (false, "ipv6", "EnableIPv6")] {
        let config = one_family(ipv6, &format!(r#","Mode":"{mode}""#));
        let error = backend_of(&config).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    assert!(backend_of(&config(r#","Mode":"auto","ListenPort":51821"#)).is_ok());
    assert!(backend_of(&one_family(true, r#","ListenPort":0"#)).is_ok());
}

#[test]
fn check_names_devices_and_ports() {
    let meaning = |config: &NetworkConfig| (TYPE.check)(config).unwrap();
    let separate = meaning(&config(&format!(r#","PSK":"{PSK}""#)));
    assert_eq!(separate.devices, ["flannel-wg", "flannel-wg-v6"]);
    assert_eq!(
        separate.text,
        "wireguard, device flannel-wg on UDP port 51820 and device flannel-wg-v6 on UDP port 51821, with a preshared key"
    );
    let single = meaning(&one_family(true, r#","Mode":"auto""#));
    assert_eq!(single.devices, separate.devices, "the mode may change");
    assert_eq!(
        single.text,
        "wireguard, device flannel-wg on UDP port 51820"
    );
    let v6 = meaning(&one_family(true, "")).text;
    assert_eq!(v6, "wireguard, device flannel-wg-v6 on UDP port 51821");
}

#[test]
fn node_with_the_key_of_another_is_skipped() {
    let own_key = key::public(&PrivateKey::new(PRIVATE));
    let cloned = lease(2, ("172.31.0.2", "fd31::2"), own_key, (51820, 51821));
    let first = plan("", &[cloned, go(3)]);
    assert_eq!(peers(&first.state, "flannel-wg").len(), 1);
    let reasons: Vec<_> = first.skipped.iter().map(|lease| &lease.reason).collect();
    assert_eq!(reasons, [&PeerError::OwnPublicKey(own_key); 2]);

    // the newer lease has the smaller number
    let same = lease(4, ("172.31.0.4", "fd31::4"), key(3), (51820, 51821));
    let plan = plan(r#","Mode":"ipv4""#, &[same, go(3)]);
    assert_eq!(
        peers(&plan.state, "flannel-wg"),
        ["3 172.31.0.3:51820 10.244.3.0/24,fd00:10:244:3::/64"]
    );
    let holders: Vec<_> = plan.skipped.iter().map(|lease| &lease.reason).collect();
    let duplicate = |holder: &str| PeerError::DuplicatePublicKey {
        key: key(3),
        holder: holder.parse().unwrap(),
    };
    assert_eq!(holders, [&duplicate("172.31.0.3"), &duplicate("fd31::3")]);
}

#[test]
fn peer_without_an_address_of_the_tunnels_family_is_skipped() {
    let mut v4_only = go(2);
    v4_only.subnets.v6 = None;
    v4_only.attrs.public_ipv6 = None;
    v4_only.attrs.backend_v6_data = None;
    let plan = plan(r#","Mode":"ipv6""#, &[v4_only, go(3)]);
    assert_eq!(peers(&plan.state, "flannel-wg").len(), 1);
    assert_eq!(plan.skipped.len(), 1);
    assert_eq!(plan.skipped[0].reason, PeerError::NoEndpoint("IPv6"));
    assert!(plan.skipped[0].to_string().contains("10.244.2.0/24"));
}

#[test]
fn published_data_of_peers_is_read_as_go_reads_it() {
    let key = PublicKey([3; 32]);
    let data = |value: Value| decode(Some(&value));
    let expected = |port| {
        Ok(PeerData::Wireguard {
            public_key: key,
            port,
        })
    };
    let text = key.to_string();
    assert_eq!(data(json!({"PublicKey": text, "Port": 7})), expected(7));
    assert_eq!(data(json!({"publickey": text})), expected(0));
    assert_eq!(decode(None), Err(PeerError::NoData("wireguard")));
    assert_eq!(data(json!({})), Err(PeerError::NoPublicKey));
    for bad in ["", "x", PublicKey([0; 32]).to_string().as_str()] {
        assert_eq!(data(json!({"PublicKey": bad})), Err(PeerError::NoPublicKey));
    }
    for port in [json!(70000), json!(-1), json!("7")] {
        let read = data(json!({"PublicKey": text, "Port": port}));
        assert!(
            matches!(read, Err(PeerError::UnreadableData(_))),
            "{read:?}"
        );
    }
}

#[test]
fn route_to_the_network_over_our_device_is_ours() {
    let backend = backend("");
    let families = [Family {
        network: "10.244.0.0/16".parse().unwrap(),
        subnet: "10.244.1.0/24".parse().unwrap(),
    }];
    let owns = |dst: &str, over_own_device| {
        let route = HostRoute::on_link(dst.parse().unwrap(), "flannel-wg".into());
        backend.owns_route(&CandidateRoute {
            route: &route,
            over_own_device,
            families: &families,
        })
    };
    assert!(owns("10.244.0.0/16", true) && owns("10.244.2.0/24", true));
    assert!(!owns("10.244.0.0/16", false));
    assert!(!owns("10.0.0.0/8", true) && !owns("192.168.0.0/16", true));
}

/// The devices have other kinds; addresses, routes and peers are the same.
#[test]
fn user_space_has_the_same_devices_and_processes_have_the_peers() {
    for (keys, names) in [
        ("", ["flannel-wg", "flannel-wg-v6"].as_slice()),
        (r#","Mode":"auto""#, &["flannel-wg"]),
    ] {
        let config = config(keys);
        let leases = [go(1), go(2)];
        let in_kernel = plan(keys, &leases);
        let backend = WireguardBackend {
            user_space: Some(UserSpace::Missing),
            ..backend(keys)
        };
        let plan = backend.plan(&Input {
            config: &config,
            underlay: &underlay(),
            own: &go(1),
            leases: &fixtures::decoded(&backend, &leases),
            routes: &UnderlayRoutes::default(),
        });
        assert_eq!(routes(&plan), routes(&in_kernel));
        assert_eq!(plan.peers, in_kernel.peers);
        let served = backend.data_path_devices().iter();
        assert_eq!(served.map(ToString::to_string).collect::<Vec<_>>(), names);
        let configs = plan.data_path.iter();
        let of_device = |config: &Arc<crate::data_path::Config>| config.device.clone();
        assert_eq!(configs.map(of_device).collect::<Vec<_>>(), names);
        for (name, device) in &plan.state.devices {
            let other = &in_kernel.state.devices[name];
            assert_eq!(device.link.kind, DeviceKind::Tun);
            assert_eq!(device.addresses, other.addresses);
            assert_eq!(device.wireguard, None, "the kernel is not asked");
        }
        let [first, ..] = plan.data_path.as_slice() else {
            panic!("no process");
        };
        let both = names.len() == 1;
        let ports = (Some(51820), both.then_some(51820));
        assert_eq!((first.port, first.port_v6), ports, "{keys}");
        let text = format!("{first:?}");
        assert!(
            text.contains("wireguard") && !text.contains("SEh"),
            "{text}"
        );
    }
    assert!(backend("").data_path_devices().is_empty());
}
