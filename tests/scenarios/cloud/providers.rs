//! The clouds: what the metadata service says and the fake's state is at first.

use super::metadata::{Demand, Metadata};

/// A cloud.
pub(super) struct Provider {
    pub(super) script: &'static str,
    /// The variable that names the metadata service.
    pub(super) server: &'static str,
    demand: Demand,
    /// Paths and values; `@` is the number of the node.
    metadata: &'static [(&'static str, &'static str)],
    /// Lines of the fake's state.
    pub(super) state: &'static [&'static str],
    /// The route to [`SUBNET`](super::SUBNET) in the state; `@` is the number of the node.
    pub(super) route: &'static str,
    /// What the fake calls the request that makes a route.
    pub(super) create: &'static str,
    /// The path without which the script does not know where it is.
    pub(super) place: &'static str,
}

/// The address of a node.
pub(super) fn address(node: usize) -> String {
    format!("172.31.0.{node}")
}

impl Provider {
    pub(super) fn metadata(&self, node: usize) -> Metadata {
        self.metadata_without(node, "")
    }

    /// The service without one of its paths.
    pub(super) fn metadata_without(&self, node: usize, path: &str) -> Metadata {
        let known = self.metadata.iter().filter(|(known, _)| *known != path);
        let values = known.map(|(path, value)| ((*path).to_owned(), numbered(value, node)));
        Metadata::new(self.demand, values.collect())
    }
}

/// A text with the number of a node.
pub(super) fn numbered(text: &str, node: usize) -> String {
    text.replace('@', &node.to_string())
}

const MAC: &str = "02:00:00:00:00:01";

pub(super) static AWS: Provider = Provider {
    script: "aws-routes",
    server: "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    demand: Demand::Token,
    metadata: &[
        ("/latest/meta-data/mac", MAC),
        ("/latest/meta-data/placement/region", "eu-west-1"),
        (
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/interface-id",
            "eni-@",
        ),
        (
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/subnet-id",
            "subnet-1",
        ),
        (
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/vpc-id",
            "vpc-1",
        ),
    ],
    state: &[
        "table rtb-other subnet-9 vpc-1",
        "table rtb-1 subnet-1 vpc-1",
        "interface eni-1 172.31.0.1 True",
        "interface eni-2 172.31.0.2 True",
    ],
    route: "route rtb-1 10.244.7.0/24 eni-@ active",
    create: "create-route",
    place: "/latest/meta-data/placement/region",
};

pub(super) static GOOGLE: Provider = Provider {
    script: "google-routes",
    server: "METADATA_SERVER",
    demand: Demand::Header("metadata-flavor: google"),
    metadata: &[
        ("/computeMetadata/v1/project/project-id", "project-1"),
        (
            "/computeMetadata/v1/instance/network-interfaces/0/network",
            "projects/77/networks/net-1",
        ),
        ("/computeMetadata/v1/instance/name", "node-@"),
        (
            "/computeMetadata/v1/instance/zone",
            "projects/77/zones/europe-west1-b",
        ),
    ],
    state: &[
        "instance node-1 europe-west1-b 172.31.0.1 True",
        "instance node-2 europe-west1-b 172.31.0.2 True",
        "instance node-3 europe-west1-b 172.31.0.3 False",
    ],
    route: "route flannel-10-244-7-0-24 net-1 10.244.7.0/24 europe-west1-b node-@",
    create: "compute.routes.create",
    place: "/computeMetadata/v1/project/project-id",
};

pub(super) static ALIBABA: Provider = Provider {
    script: "alibaba-routes",
    server: "METADATA_SERVER",
    demand: Demand::Nothing,
    metadata: &[
        ("/latest/meta-data/region-id", "cn-hangzhou"),
        ("/latest/meta-data/vswitch-id", "vsw-1"),
        ("/latest/meta-data/instance-id", "i-@"),
    ],
    state: &[
        "vswitch vsw-9 vtb-other",
        "vswitch vsw-1 vtb-1",
        "instance i-1 172.31.0.1",
        "instance i-2 172.31.0.2",
    ],
    route: "route vtb-1 10.244.7.0/24 i-@",
    create: "CreateRouteEntry",
    place: "/latest/meta-data/region-id",
};

pub(super) static TENCENT: Provider = Provider {
    script: "tencent-routes",
    server: "METADATA_SERVER",
    demand: Demand::Nothing,
    metadata: &[
        ("/latest/meta-data/placement/region", "ap-guangzhou"),
        ("/latest/meta-data/mac", MAC),
        (
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/subnet-id",
            "subnet-1",
        ),
    ],
    state: &["subnet subnet-9 rtb-other", "subnet subnet-1 rtb-1"],
    route: "route rtb-1 10.244.7.0/24 172.31.0.@",
    create: "CreateRoutes",
    place: "/latest/meta-data/placement/region",
};
