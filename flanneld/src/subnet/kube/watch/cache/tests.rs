use super::*;
use crate::subnet::kube::protobuf::fixtures;

const MAC: &str = r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#;
const V4: Families = Families {
    ipv4: true,
    ipv6: false,
};
const BOTH: Families = Families {
    ipv4: true,
    ipv6: true,
};

/// A node as the API server describes it.
#[derive(Clone)]
struct Described {
    name: &'static str,
    created: i64,
    version: String,
    annotations: Vec<(&'static str, String)>,
    pod_cidrs: Vec<&'static str>,
}

impl Described {
    fn object(&self) -> NodeObject {
        let annotations: Vec<(&str, &str)> = self
            .annotations
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        let (name, created, version) = (self.name, self.created, &self.version);
        let node = fixtures::node_with(name, created, version, &annotations, &self.pod_cidrs);
        NodeObject::decode(node.into()).unwrap()
    }

    fn set(mut self, key: &'static str, value: &str) -> Described {
        self.annotations.retain(|(known, _)| *known != key);
        self.annotations.push((key, value.to_owned()));
        self
    }

    fn without(mut self, key: &str) -> Described {
        self.annotations.retain(|(known, _)| *known != key);
        self
    }

    fn pod_cidr(mut self, pod_cidr: &'static str) -> Described {
        self.pod_cidrs = vec![pod_cidr];
        self
    }

    fn created(mut self, created: i64) -> Described {
        self.created = created;
        self
    }

    fn version(mut self, version: &str) -> Described {
        self.version = version.to_owned();
        self
    }
}

/// A node that runs flanneld.
fn described(name: &'static str, public_ip: &str, pod_cidr: &'static str) -> Described {
    Described {
        name,
        created: 1,
        version: "1".to_owned(),
        annotations: Vec::new(),
        pod_cidrs: vec![pod_cidr],
    }
    .set("kube-subnet-manager", "true")
    .set("backend-type", "vxlan")
    .set("backend-data", MAC)
    .set("public-ip", public_ip)
}

fn n1() -> Described {
    described("n1", "192.0.2.1", "10.1.1.0/24")
}

fn n2() -> Described {
    described("n2", "192.0.2.2", "10.1.2.0/24")
}

fn cache(families: Families) -> NodeCache {
    let keys = Keys::new("flannel.alpha.coreos.com").unwrap();
    NodeCache::new(keys, families, "n1".to_owned())
}

impl NodeCache {
    fn list(&mut self, nodes: &[Described]) {
        self.start_listing();
        for node in nodes {
            self.apply(&node.object()).unwrap();
        }
        self.finish_listing();
    }

    fn set(&mut self, node: &Described) {
        self.apply(&node.object()).unwrap();
    }
}

/// A cache after a first listing whose leases were taken.
fn listed(nodes: &[Described]) -> (NodeCache, Leases) {
    let mut cache = cache(V4);
    cache.list(nodes);
    let leases = cache.take_leases().unwrap();
    (cache, leases)
}

fn subnets(leases: &Leases) -> Vec<String> {
    leases.iter().map(|lease| lease.subnets.cidrs()).collect()
}

#[test]
fn nothing_is_published_before_the_end_of_the_first_listing() {
    let mut cache = cache(V4);
    assert_eq!(cache.own(), &OwnNode::Unknown);
    cache.start_listing();
    cache.set(&n2());
    assert_eq!(cache.take_leases(), None);
    assert_eq!(cache.own(), &OwnNode::Unknown);
    cache.finish_listing();
    assert_eq!(cache.own(), &OwnNode::Missing);
    assert_eq!(subnets(&cache.take_leases().unwrap()), ["10.1.2.0/24"]);
    assert_eq!(cache.take_leases(), None);
}

#[test]
fn cluster_without_nodes_is_a_whole_listing() {
    let (_, leases) = listed(&[]);
    assert!(leases.is_empty());
}

#[test]
fn every_change_that_concerns_a_lease_is_one() {
    let changes: [(&str, Described); 6] = [
        ("public IP", n2().set("public-ip", "192.0.2.9")),
        ("backend type", n2().set("backend-type", "host-gw")),
        ("backend data", n2().set("backend-data", "{}")),
        ("podCIDR", n2().pod_cidr("10.1.3.0/24")),
        ("no flanneld", n2().without("kube-subnet-manager")),
        ("no address", n2().without("public-ip")),
    ];
    for (what, changed) in changes {
        let (mut cache, before) = listed(&[n1(), n2()]);
        cache.set(&changed);
        let after = cache.take_leases().unwrap_or_else(|| panic!("{what}"));
        assert_ne!(before, after, "{what}");
        assert!(Arc::ptr_eq(&before[0], &after[0]), "n1 is shared");
    }
}

#[test]
fn each_family_counts() {
    let both = |v6: &str| {
        let mut node = n2().set("public-ipv6", v6).set("backend-v6-data", MAC);
        node.pod_cidrs.push("fd00:1:2::/64");
        node
    };
    let mut cache = cache(BOTH);
    cache.list(&[both("fd00::2")]);
    let before = cache.take_leases().unwrap();
    cache.set(&both("fd00::3"));
    let after = cache.take_leases().unwrap();
    assert_ne!(before[0].attrs.public_ipv6, after[0].attrs.public_ipv6);
    cache.set(&both("fd00::3").without("public-ip"));
    let after = cache.take_leases().unwrap();
    assert_eq!(subnets(&after), ["fd00:1:2::/64"]);
    let notices = cache.take_notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].contains("n2") && notices[0].contains("public-ip"),
        "{notices:?}"
    );
}

#[test]
fn what_does_not_concern_a_lease_publishes_nothing() {
    let (mut cache, _) = listed(&[n1(), n2()]);
    cache.set(&n2().version("2"));
    cache.set(&n2().set("node-public-ip", "192.0.2.2"));
    assert_eq!(cache.take_leases(), None);
    assert!(cache.take_notices().is_empty());
}

#[test]
fn own_object_is_followed() {
    let (mut cache, _) = listed(&[n1(), n2()]);
    let own = |cache: &NodeCache| match cache.own() {
        OwnNode::Present(node) => node.clone(),
        other => panic!("{other:?}"),
    };
    let first = own(&cache);
    assert_eq!(first.pod_cidrs, ["10.1.1.0/24"]);
    cache.set(&n1().version("2"));
    assert!(
        Arc::ptr_eq(&own(&cache), &first),
        "a heartbeat is no change"
    );
    cache.set(&n1().version("3").set("public-ip-overwrite", "198.51.100.1"));
    assert_eq!(own(&cache).resource_version, "3");
    cache.remove(&n1().object());
    assert_eq!(cache.own(), &OwnNode::Missing);
    cache.set(&n1().created(7));
    assert_eq!(own(&cache).uid, "uid-7");
}

#[test]
fn listing_again_changes_what_differs() {
    let n3 = described("n3", "192.0.2.3", "10.1.3.0/24");
    let n4 = described("n4", "192.0.2.4", "10.1.4.0/24");
    let (mut cache, before) = listed(&[n1(), n2(), n3.clone()]);
    cache.list(&[n1(), n2(), n3.clone()]);
    assert_eq!(cache.take_leases(), None, "nothing differs");
    cache.start_listing();
    cache.set(&n4);
    assert_eq!(
        cache.take_leases(),
        None,
        "the listing has not come to its end"
    );
    // the listing breaks off, and the next one has everything
    cache.list(&[n1(), n3.set("public-ip", "192.0.2.33"), n4]);
    let after = cache.take_leases().unwrap();
    assert_eq!(
        subnets(&after),
        ["10.1.1.0/24", "10.1.3.0/24", "10.1.4.0/24"]
    );
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert_ne!(before[2], after[1]);
}

#[test]
fn node_that_is_deleted_and_made_again_has_its_new_address() {
    let (mut cache, _) = listed(&[n1(), n2()]);
    cache.remove(&n2().object());
    cache.set(&n2().created(9).set("public-ip", "192.0.2.22"));
    let leases = cache.take_leases().unwrap();
    assert_eq!(leases[1].attrs.public_ip, Some([192, 0, 2, 22].into()));
    cache.remove(&n2().object());
    assert_eq!(subnets(&cache.take_leases().unwrap()), ["10.1.1.0/24"]);
}

#[test]
fn bad_node_is_reported_once_for_each_change() {
    let (mut cache, _) = listed(&[n1(), n2()]);
    let bad = n2().set("public-ip", "nonsense");
    cache.set(&bad);
    assert_eq!(subnets(&cache.take_leases().unwrap()), ["10.1.1.0/24"]);
    let notices = cache.take_notices();
    assert_eq!(notices.len(), 1);
    for part in [
        "node n2",
        "flannel.alpha.coreos.com/public-ip",
        "nonsense",
        "skipped",
    ] {
        assert!(notices[0].contains(part), "{notices:?}");
    }
    assert_eq!(cache.summary().skipped, 1);
    cache.set(&bad.clone().version("2"));
    cache.set(&bad.set("node-public-ip", "x"));
    cache.list(&[n1(), n2().set("public-ip", "nonsense")]);
    assert!(cache.take_notices().is_empty());
    assert_eq!(cache.take_leases(), None);
    cache.set(&n2());
    assert_eq!(cache.take_leases().unwrap().len(), 2);
    assert_eq!(cache.take_notices(), ["node n2: its lease can be used now"]);
    assert_eq!(cache.summary().skipped, 0);
}

#[test]
fn overlap_is_reported_once_and_ends() {
    let second = n2().created(5).pod_cidr("10.1.0.0/16");
    let (mut cache, leases) = listed(&[n1(), second.clone()]);
    assert_eq!(subnets(&leases), ["10.1.1.0/24"]);
    let notices = cache.take_notices();
    assert_eq!(notices.len(), 1);
    for part in ["node n2", "10.1.0.0/16", "10.1.1.0/24", "node n1"] {
        assert!(notices[0].contains(part), "{notices:?}");
    }
    assert_eq!(cache.summary().skipped, 1);
    cache.set(&second.clone().set("public-ip", "192.0.2.5"));
    let again = cache.take_leases().unwrap();
    assert!(Arc::ptr_eq(&again[0], &leases[0]));
    assert!(cache.take_notices().is_empty());
    cache.set(&n2());
    assert_eq!(cache.take_leases().unwrap().len(), 2);
    assert_eq!(cache.take_notices().len(), 1);
    assert_eq!(cache.summary().skipped, 0);
}
