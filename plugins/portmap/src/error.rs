//! Why a verb failed. Every variant becomes CNI's code 999, except [`Failure::Taken`].

use crate::{conditional::NftFailure, conf::Invalid};

/// The plugin's own code (from 100 on, CNI spec section 5): the host port is another pod's.
const PORT_IN_USE: u32 = 100;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The plugin's keys cannot be used.
    #[error("failed to parse config: {0}")]
    Conf(#[from] Invalid),
    /// ADD or CHECK has no prevResult.
    #[error("must be called as chained plugin")]
    NotChained,
    /// The packet filter refused the new mappings.
    #[error("cannot map host ports: {0}")]
    Map(#[source] packet_filter::Error),
    /// A pod that exists has a host port.
    #[error(
        "host port in use: {mapping} belongs to {owner}, in a network namespace {namespace}; delete \
         that pod or use another port"
    )]
    Taken {
        mapping: String,
        owner: String,
        namespace: String,
    },
    /// The program nft refused the mappings with conditions.
    #[error("cannot map host ports with conditions {}: {source}", conditions.join(" "))]
    Conditions {
        conditions: Vec<String>,
        source: NftFailure,
    },
    /// The sysctl of the interface that leads to the container cannot be set.
    #[error("unable to enable route_localnet: {0}")]
    RouteLocalnet(#[source] linux_net::Error),
    /// The packet filter cannot be read for CHECK.
    #[error("cannot check host ports: {0}")]
    Check(#[source] packet_filter::Error),
    /// CHECK found less than ADD made.
    #[error(
        "port mapping of container {container_id}: {what} is missing in {table}; \
         delete the container and start it again"
    )]
    Missing {
        container_id: String,
        what: String,
        table: String,
    },
    /// The packet filter refused the removal.
    #[error("cannot remove port mappings: {0}")]
    Remove(#[source] packet_filter::Error),
}

/// For changes of iptables' tables.
impl From<packet_filter::Error> for Failure {
    fn from(error: packet_filter::Error) -> Self {
        Failure::Map(error)
    }
}

impl From<Failure> for cni_conf::Error {
    fn from(failure: Failure) -> Self {
        let is_taken = matches!(failure, Failure::Taken { .. });
        let error = cni_conf::Error::internal(failure);
        match is_taken {
            true => cni_conf::Error {
                code: PORT_IN_USE,
                ..error
            },
            false => error,
        }
    }
}
