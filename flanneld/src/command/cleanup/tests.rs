use super::{ownership::NotOurs, *};
use crate::{
    model::host_state::ROUTE_PROTOCOL,
    underlay::fixtures::{self, PERMANENT, address},
};
use linux_net::{
    link::{Kind, Link, Vxlan},
    route::Route,
};
use std::net::IpAddr;

fn link(index: u32, name: &str, kind: Kind, master: Option<u32>) -> Link {
    Link {
        kind,
        master,
        ..fixtures::link(index, name)
    }
}

fn env() -> Previous {
    ::subnet_env::previous("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n")
}

#[test]
fn bridge_is_ours_by_its_gateway_address() {
    let bridge = link(
        5,
        "cni0",
        Kind::Bridge {
            vlan_filtering: false,
        },
        None,
    );
    let pod = link(6, "veth1", Kind::Veth, Some(5));
    let host = |address, links: &[&Link]| HostNetwork {
        links: links.iter().copied().cloned().collect(),
        addresses: vec![address],
        ..HostNetwork::default()
    };
    let ours = host(address(5, "10.244.1.1/24", PERMANENT), &[&bridge]);
    assert_eq!(attached_interfaces(&bridge, &ours, &env()), Ok(0));
    let with_pod = host(address(5, "10.244.1.1/24", PERMANENT), &[&bridge, &pod]);
    assert_eq!(attached_interfaces(&bridge, &with_pod, &env()), Ok(1));
    let foreign = host(address(5, "10.9.1.1/24", PERMANENT), &[&bridge]);
    let error = attached_interfaces(&bridge, &foreign, &env()).unwrap_err();
    assert!(error.to_string().contains("another program"));
    assert_eq!(
        attached_interfaces(&bridge, &ours, &Previous::default()),
        Err(NotOurs::NoGatewayAddress),
        "without subnet.env"
    );
    let dummy = link(5, "cni0", Kind::Other("dummy".into()), None);
    let error = attached_interfaces(&dummy, &ours, &env()).unwrap_err();
    assert!(error.to_string().contains("not a bridge"));
}

#[test]
fn direct_route_is_ours_by_protocol_or_by_network_and_interface() {
    let vxlan = Kind::Vxlan(Vxlan {
        vni: 1,
        lower: Some(2),
        ..Vxlan::default()
    });
    let host = HostNetwork {
        links: vec![link(5, "flannel.1", vxlan, None)],
        ..HostNetwork::default()
    };
    let route = |dst: &str, oif: u32| Route {
        gateway: Some(IpAddr::from([172, 31, 0, 2])),
        oif: Some(oif),
        ..Route::new(dst.parse().unwrap())
    };
    let owner = |route: &Route, env: &Previous| route_owner(route, &families(env), true, &host);
    let boot = route("10.244.2.0/24", 2);
    assert_eq!(owner(&boot, &env()), RouteOwner::Flanneld);
    assert_eq!(
        owner(&route("10.244.2.0/24", 7), &env()),
        RouteOwner::Unknown,
        "over another link"
    );
    for other in [route("10.244.1.0/24", 2), route("10.245.2.0/24", 2)] {
        assert_eq!(owner(&other, &env()), RouteOwner::Other, "{other:?}");
    }
    assert_eq!(owner(&boot, &Previous::default()), RouteOwner::Other);
    assert_eq!(
        route_owner(&boot, &families(&env()), false, &host),
        RouteOwner::Other,
        "this node never made such routes"
    );
    let marked = Route {
        protocol: ROUTE_PROTOCOL,
        ..route("10.9.2.0/24", 7)
    };
    assert_eq!(owner(&marked, &Previous::default()), RouteOwner::Flanneld);
}
