//! Each script against the fake of its cloud's command line tool.

use super::{
    Cloud, SUBNET,
    providers::{ALIBABA, AWS, GOOGLE, Provider, TENCENT, address, numbered},
};
use tests::scenario;

#[scenario]
fn aws_route_follows_the_node() {
    route_follows_the_node(&AWS);
}

#[scenario]
fn google_route_follows_the_node() {
    route_follows_the_node(&GOOGLE);
}

#[scenario]
fn alibaba_route_follows_the_node() {
    route_follows_the_node(&ALIBABA);
}

#[scenario]
fn tencent_route_follows_the_node() {
    route_follows_the_node(&TENCENT);
}

/// True if the one route leads to the node; a fake may add to its line.
fn leads_to(cloud: &Cloud, node: usize) -> bool {
    let route = numbered(cloud.provider.route, node);
    matches!(&*cloud.routes(), [one] if *one == route || one.starts_with(&format!("{route} ")))
}

/// Made once, replaced by the node that has the subnet next, and removed only for the node that it
/// leads to.
fn route_follows_the_node(provider: &'static Provider) {
    let cloud = Cloud::new(provider);
    let first = cloud.run(1, "add", &address(1));
    assert!(first.contains(SUBNET), "{first}");
    assert!(leads_to(&cloud, 1), "{:?}", cloud.routes());
    assert_eq!(
        cloud.run(1, "add", &address(1)),
        "",
        "nothing is left to do"
    );
    assert!(leads_to(&cloud, 1), "{:?}", cloud.routes());
    cloud.run(2, "add", &address(2));
    assert!(leads_to(&cloud, 2), "{:?}", cloud.routes());
    // a third node is late with the removal of the first
    let late = cloud.run(1, "remove", &address(1));
    assert!(late.contains("stays: it leads to another node"), "{late}");
    assert!(leads_to(&cloud, 2), "{:?}", cloud.routes());
    cloud.run(1, "remove", &address(2));
    assert_eq!(cloud.routes(), Vec::<String>::new());
    assert_eq!(
        cloud.run(2, "remove", &address(2)),
        "",
        "nothing is left to do"
    );
}

#[scenario]
fn aws_failures_say_what_to_do() {
    failures_say_what_to_do(&AWS);
}

#[scenario]
fn google_failures_say_what_to_do() {
    failures_say_what_to_do(&GOOGLE);
}

#[scenario]
fn alibaba_failures_say_what_to_do() {
    failures_say_what_to_do(&ALIBABA);
}

#[scenario]
fn tencent_failures_say_what_to_do() {
    failures_say_what_to_do(&TENCENT);
}

/// A table that is full, a permission that is missing, and a metadata service that does not answer.
fn failures_say_what_to_do(provider: &'static Provider) {
    let mut cloud = Cloud::new(provider);
    cloud.add_state("quota 0");
    let full = cloud.refused(1, "add");
    assert!(full.contains(": ask "), "{full}");
    assert_eq!(cloud.routes(), Vec::<String>::new());
    cloud.set_state(provider.state);
    cloud.add_state(&format!("denied {}", provider.create));
    let denied = cloud.refused(1, "add");
    assert!(denied.contains("permission"), "{denied}");
    cloud.set_state(provider.state);
    cloud.nodes[0] = provider.metadata_without(1, provider.place);
    let lost = cloud.refused(1, "add");
    let path = provider.place.rsplit('/').next().expect("a path");
    assert!(lost.contains("metadata") && lost.contains(path), "{lost}");
    let usage = cloud.refused(2, "");
    assert!(
        usage.contains("usage: ") && usage.contains("add|remove"),
        "{usage}"
    );
}

/// An instance that was terminated: nobody has its address any more.
#[scenario]
fn aws_route_to_a_terminated_instance_is_removed() {
    let cloud = Cloud::new(&AWS);
    cloud.run(1, "add", &address(1));
    cloud.edit_state(|line| match line {
        line if line.starts_with("interface eni-1 ") => None,
        line => Some(line.replace(" active", " blackhole")),
    });
    cloud.run(2, "remove", &address(1));
    assert_eq!(cloud.routes(), Vec::<String>::new());
    let log = cloud.run(2, "add", &address(2));
    assert!(log.contains("create-route"), "{log}");
}

#[scenario]
fn route_to_a_deleted_instance_is_removed() {
    for (provider, instance) in [(&GOOGLE, "instance node-1 "), (&ALIBABA, "instance i-1 ")] {
        let cloud = Cloud::new(provider);
        cloud.run(1, "add", &address(1));
        cloud.edit_state(|line| (!line.starts_with(instance)).then(|| line.to_owned()));
        cloud.run(2, "remove", &address(1));
        assert_eq!(cloud.routes(), Vec::<String>::new(), "{}", provider.script);
    }
}

/// The check is switched off, and the table of the VPC serves a subnet without its own.
#[scenario]
fn aws_instance_may_forward_and_its_table_is_found() {
    let cloud = Cloud::new(&AWS);
    cloud.edit_state(|line| Some(line.replace("table rtb-1 subnet-1 ", "table rtb-1 main ")));
    cloud.run(1, "add", &address(1));
    assert!(leads_to(&cloud, 1), "{:?}", cloud.routes());
    let state = cloud
        .host(1)
        .sh(&format!("cat {}", cloud.state_file().display()));
    assert!(
        state.contains("interface eni-1 172.31.0.1 False"),
        "{state}"
    );
    assert!(state.contains("interface eni-2 172.31.0.2 True"), "{state}");
}

#[scenario]
fn both_families_have_routes_where_the_cloud_has_ipv6() {
    for provider in [&AWS, &GOOGLE] {
        let cloud = Cloud::new(provider);
        let variables = format!("SUBNET={SUBNET} IPV6SUBNET=fd00:10:244:7::/64");
        for (verb, count) in [("add", 2), ("add", 2), ("remove", 0)] {
            let output = cloud.script(1, verb, &address(1), &variables);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {error}", provider.script);
            assert_eq!(cloud.routes().len(), count, "{:?}", cloud.routes());
        }
    }
    for provider in [&ALIBABA, &TENCENT] {
        let cloud = Cloud::new(provider);
        let variables = format!("SUBNET={SUBNET} IPV6SUBNET=fd00:10:244:7::/64");
        let output = cloud.script(1, "add", &address(1), &variables);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("IPv6 is not supported"), "{error}");
    }
}

#[scenario]
fn google_instance_that_cannot_forward_is_refused() {
    let mut cloud = Cloud::new(&GOOGLE);
    cloud.nodes[0] = GOOGLE.metadata(3);
    let error = cloud.refused(1, "add");
    assert!(error.contains("node-3 does not forward packets"), "{error}");
}
