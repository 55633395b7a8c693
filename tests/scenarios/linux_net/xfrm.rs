//! Policies of IPsec, checked by `ip xfrm policy`.

use linux_net::xfrm::{self, Direction, Event, Monitor, Policy, Template, Xfrm};
use tests::{Host, scenario};

fn policy(direction: Direction, dst: &str) -> Policy {
    let (src, from, to) = match dst.contains(':') {
        true => ("fd00:10:244:1::/64", "fd31::1", "fd31::2"),
        false => ("10.244.1.0/24", "192.0.2.1", "192.0.2.2"),
    };
    let template = Template {
        src: super::ip(from),
        dst: super::ip(to),
        reqid: 11,
        optional: false,
    };
    Policy::new(super::net(src), super::net(dst), direction, template)
}

#[scenario]
fn policies_are_made_as_ip_makes_them() {
    let host = Host::new("a");
    let mut xfrm = host.run(|| Xfrm::open().expect("xfrm"));
    host.sh(
        "ip xfrm policy add src 10.244.1.0/24 dst 10.244.2.0/24 dir out \
         tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 11 mode tunnel",
    );
    let out = policy(Direction::Out, "10.244.2.0/24");
    assert_eq!(
        xfrm.policies().expect("policies"),
        std::slice::from_ref(&out)
    );
    let by_ip = host.sh("ip xfrm policy");
    xfrm.request(&xfrm::delete(&out)).expect("delete");
    assert_eq!(host.sh("ip xfrm policy"), "");
    xfrm.request(&xfrm::add(&out)).expect("add");
    assert_eq!(host.sh("ip xfrm policy"), by_ip);
    let again = xfrm.request(&xfrm::delete(&policy(Direction::In, "10.244.2.0/24")));
    assert!(again.expect_err("there is none").is_absent());
}

#[scenario]
fn add_leaves_what_is_there_and_update_replaces_it() {
    let host = Host::new("a");
    let mut xfrm = host.run(|| Xfrm::open().expect("xfrm"));
    let all: Vec<_> = ["10.244.2.0/24", "fd00:10:244:2::/64"]
        .into_iter()
        .flat_map(|dst| {
            [Direction::In, Direction::Out, Direction::Forward]
                .map(|direction| policy(direction, dst))
        })
        .collect();
    let add: Vec<_> = all.iter().map(xfrm::add).collect();
    assert!(xfrm.batch(&add).iter().all(Result::is_ok));
    let mut listed = xfrm.policies().expect("policies");
    listed.sort();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(listed, sorted);
    let mut other = all[2].clone();
    other.template.as_mut().expect("template").dst = super::ip("192.0.2.9");
    other.template.as_mut().expect("template").optional = true;
    let refused = xfrm.request(&xfrm::add(&other));
    assert!(refused.expect_err("one is there").is_exists());
    assert_eq!(xfrm.policy(&all[2]).expect("policy"), all[2]);
    xfrm.request(&xfrm::update(&other)).expect("update");
    assert_eq!(xfrm.policy(&all[2]).expect("policy"), other);
    assert_eq!(xfrm.policies().expect("policies").len(), all.len());
    assert_eq!(xfrm.associations().expect("associations"), []);
}

#[scenario]
fn changes_of_policies_are_notified() {
    let host = Host::new("a");
    let (mut xfrm, mut monitor) = host.run(|| {
        let monitor = Monitor::open().expect("monitor");
        (Xfrm::open().expect("xfrm"), monitor)
    });
    assert_eq!(
        monitor.events().expect("events"),
        [],
        "no event, no blocking"
    );
    let out = policy(Direction::Out, "10.244.2.0/24");
    xfrm.request(&xfrm::add(&out)).expect("add");
    host.sh("ip xfrm policy delete src 10.244.1.0/24 dst 10.244.2.0/24 dir out");
    let expected = [
        Event::Policy(out.clone(), true),
        Event::Policy(out.clone(), false),
    ];
    assert_eq!(monitor.events().expect("events"), expected);
    xfrm.request(&xfrm::add(&out)).expect("add");
    host.sh("ip xfrm policy flush");
    let expected = [Event::Policy(out, true), Event::PoliciesFlushed];
    assert_eq!(monitor.events().expect("events"), expected);
}
