use super::*;
use linux_net::link::Vxlan;

fn link(index: u32, name: &str, kind: Kind, master: Option<u32>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mtu: 1500,
        mac: None,
        up: true,
        oper_up: true,
        loopback: false,
        promisc: false,
        allmulti: false,
        master,
        lower: None,
        peer_netnsid: None,
        txqlen: 0,
        alias: None,
        kind,
        port: None,
    }
}

fn vxlan(name: &str, vni: u32) -> Link {
    link(
        3,
        name,
        Kind::Vxlan(Vxlan {
            vni,
            ..Vxlan::default()
        }),
        None,
    )
}

fn env() -> Previous {
    subnet_env::previous("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n")
}

#[test]
fn devices_by_name_and_kind() {
    assert!(backend::owns_device(&vxlan("flannel.1", 1)));
    assert!(backend::owns_device(&vxlan("flannel-v6.4096", 4096)));
    assert!(backend::owns_device(&link(
        3,
        "flannel.ipip",
        Kind::Other("ipip".into()),
        None
    )));
    assert!(backend::owns_device(&link(
        3,
        "flannel-wg",
        Kind::Other("wireguard".into()),
        None
    )));
    for stranger in [
        vxlan("flannel.1", 2),
        vxlan("vxlan.calico", 1),
        vxlan("flannel.01", 1),
        link(
            3,
            "flannel.1",
            Kind::Bridge {
                vlan_filtering: false,
            },
            None,
        ),
        link(3, "flannel.ipip", Kind::Other("sit".into()), None),
    ] {
        assert!(!backend::owns_device(&stranger), "{stranger:?}");
    }
}

#[test]
fn the_bridge_goes_only_when_it_is_ours_and_empty() {
    let bridge = link(
        5,
        "cni0",
        Kind::Bridge {
            vlan_filtering: false,
        },
        None,
    );
    let pod = link(6, "veth1", Kind::Veth, Some(5));
    let address = |net: &str| Address {
        index: 5,
        net: net.parse().unwrap(),
        scope: 0,
        flags: 0x80,
        label: None,
    };
    let ours = [address("10.244.1.1/24")];
    let alone = std::slice::from_ref(&bridge);
    assert_eq!(judge_bridge(&bridge, alone, &ours, &env()), Ok(0));
    assert_eq!(
        judge_bridge(&bridge, &[bridge.clone(), pod], &ours, &env()),
        Ok(1)
    );
    let strange = [address("10.9.1.1/24")];
    assert!(
        judge_bridge(&bridge, alone, &strange, &env())
            .unwrap_err()
            .contains("somebody else's")
    );
    assert!(
        judge_bridge(&bridge, alone, &ours, &Previous::default()).is_err(),
        "without subnet.env"
    );
    let other = link(5, "cni0", Kind::Other("dummy".into()), None);
    assert!(
        judge_bridge(&other, alone, &ours, &env())
            .unwrap_err()
            .contains("no bridge")
    );
}

#[test]
fn host_routes_by_the_networks_shape() {
    let route = |dst: &str| Route {
        gateway: Some(IpAddr::from([172, 31, 0, 2])),
        oif: Some(2),
        ..Route::new(dst.parse().unwrap())
    };
    assert!(reconcile::is_direct_route(
        &route("10.244.2.0/24"),
        &families(&env())
    ));
    assert!(
        !reconcile::is_direct_route(&route("10.244.1.0/24"), &families(&env())),
        "our own subnet is the bridge's"
    );
    assert!(!reconcile::is_direct_route(
        &route("10.245.2.0/24"),
        &families(&env())
    ));
    assert!(!reconcile::is_direct_route(
        &route("10.244.2.0/24"),
        &families(&Previous::default())
    ));
}
