//! Node objects as kubelets make them.

use crate::underlay;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Images of a node of about 14 KB.
const IMAGES: usize = 46;

/// A node to be created.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    pod_cidrs: Vec<String>,
    annotations: Vec<(String, String)>,
    addresses: Vec<String>,
    large: bool,
}

impl Node {
    /// A node without podCIDRs, of about 2 KB.
    pub fn new(name: &str) -> Node {
        Node {
            name: name.to_owned(),
            pod_cidrs: Vec::new(),
            // a kubelet's node has it
            annotations: vec![(
                "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                "true".to_owned(),
            )],
            addresses: Vec::new(),
            large: false,
        }
    }

    /// The node of host N of an underlay (from 1), named as that host, with its addresses.
    pub fn of_host(number: usize) -> Node {
        let mut node = Node::new(&format!("host{number}"));
        node.addresses = vec![underlay::ip(number), underlay::ip6(number)];
        node
    }

    /// Sets spec.podCIDRs, and spec.podCIDR to the first.
    #[must_use]
    pub fn pod_cidrs(mut self, pod_cidrs: &[&str]) -> Node {
        self.pod_cidrs = pod_cidrs.iter().map(|&cidr| cidr.to_owned()).collect();
        self
    }

    /// Sets an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Node {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Removes the annotation that kubelets set.
    #[must_use]
    pub fn without_annotations(mut self) -> Node {
        self.annotations.clear();
        self
    }

    /// The annotations of a vxlan peer as flanneld writes them.
    #[must_use]
    pub fn vxlan_peer(self, public_ip: &str, mac: &str) -> Node {
        self.annotation("flannel.alpha.coreos.com/kube-subnet-manager", "true")
            .annotation("flannel.alpha.coreos.com/backend-type", "vxlan")
            .annotation("flannel.alpha.coreos.com/public-ip", public_ip)
            .annotation(
                "flannel.alpha.coreos.com/backend-data",
                &format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#),
            )
    }

    /// Gives it the list of images of a busy node, which makes it about 14 KB long.
    #[must_use]
    pub fn large(mut self) -> Node {
        self.large = true;
        self
    }

    /// Node N of a fleet (from 0): a large vxlan peer named node-N with a /24 of 10.128.0.0/9, or
    /// of 10.0.0.0/9 from N = 32,768.
    pub fn of_fleet(number: usize) -> Node {
        let number = u32::try_from(number).expect("fewer than 65,536 nodes") ^ 0x8000;
        let [_, _, high, low] = number.to_be_bytes();
        Node::new(&format!("node-{}", number ^ 0x8000))
            .pod_cidrs(&[&format!("10.{high}.{low}.0/24")])
            .vxlan_peer(
                &format!("198.18.{high}.{low}"),
                &format!("0e:00:00:00:{high:02x}:{low:02x}"),
            )
            .large()
    }

    /// The object.
    pub fn object(&self) -> Value {
        let annotations: Map<String, Value> = self
            .annotations
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let mut metadata = json!({
            "name": self.name,
            "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": self.name,
                "kubernetes.io/os": "linux",
            },
        });
        if !annotations.is_empty() {
            metadata["annotations"] = annotations.into();
        }
        let mut spec = json!({});
        if let Some(first) = self.pod_cidrs.first() {
            spec = json!({"podCIDR": first, "podCIDRs": self.pod_cidrs});
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata,
            "spec": spec,
            "status": self.status(),
        })
    }

    /// The object as JSON. The images, which are most of it, are the same text for every node.
    pub(super) fn text(&self) -> String {
        static IMAGE_LIST: LazyLock<String> = LazyLock::new(|| {
            let images: Vec<Value> = (0..IMAGES).map(image).collect();
            format!(r#""images":{}"#, Value::from(images))
        });
        if !self.large {
            return self.object().to_string();
        }
        let mut node = self.clone();
        node.large = false;
        let text = node.object().to_string();
        text.replacen(r#""images":[]"#, &IMAGE_LIST, 1)
    }

    fn status(&self) -> Value {
        let resources = json!({
            "cpu": "64", "ephemeral-storage": "959786032Ki", "hugepages-1Gi": "0",
            "hugepages-2Mi": "0", "memory": "263736020Ki", "pods": "110",
        });
        let addresses: Vec<Value> = self
            .addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .chain([json!({"type": "Hostname", "address": self.name})])
            .collect();
        let images = if self.large { IMAGES } else { 0 };
        let images: Vec<Value> = (0..images).map(image).collect();
        json!({
            "capacity": resources,
            "allocatable": resources,
            "addresses": addresses,
            "conditions": heartbeat("2026-01-01T00:00:00Z"),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "architecture": "amd64", "bootID": "5a4b8b2f-1d0e-4f2b-9a55-7e6f0c1d2e3f",
                "containerRuntimeVersion": "containerd://2.1.4", "kernelVersion": "6.12.0",
                "kubeProxyVersion": "", "kubeletVersion": "v1.36.3",
                "machineID": "0123456789abcdef0123456789abcdef", "operatingSystem": "linux",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "systemUUID": "4c4c4544-0042-3510-8052-b4c04f503233",
            },
            "images": images,
        })
    }
}

/// The conditions that a kubelet sets, with the time of its last look.
pub(super) fn heartbeat(time: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": time, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition(
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status"
        ),
    ])
}

fn image(number: usize) -> Value {
    let repository = format!("registry.example.com/platform/services/component-{number:02}");
    let digest = format!("{number:02x}").repeat(32);
    json!({
        "names": [format!("{repository}@sha256:{digest}"), format!("{repository}:v1.{number}.0")],
        "sizeBytes": 52_428_800 + number,
    })
}
