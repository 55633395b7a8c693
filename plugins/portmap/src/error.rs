//! Why a verb failed. Every variant becomes CNI's code 999.

use crate::{conditional::NftFailure, conf::Invalid};
use std::io;

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
    /// The lock of the iptables back end cannot be taken.
    #[error("cannot map host ports: lock {file}: {source}")]
    Lock {
        file: &'static str,
        source: io::Error,
    },
    /// The program nft refused the mappings with conditions.
    #[error("cannot map host ports with conditions {conditions:?}: {source}")]
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

impl From<Failure> for cni_conf::Error {
    fn from(failure: Failure) -> Self {
        cni_conf::Error::internal(failure)
    }
}
