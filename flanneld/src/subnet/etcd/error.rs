//! Why a request to etcd fails.

use super::keys::Unreadable;
use crate::{model::network_config, one_line::one_line, pki::Fault, subnet::BoxError};
use std::{error::Error as StdError, io, path::PathBuf, time::Duration};

/// `-etcd-endpoints` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// The option is empty.
    #[error("-etcd-endpoints names no endpoint: give URLs like http://10.0.0.1:2379")]
    None,
    /// The scheme is neither http nor https.
    #[error("-etcd-endpoints {url}: unsupported scheme {scheme}://: use http or https")]
    Scheme { url: String, scheme: String },
    /// There is no host in the URL.
    #[error("-etcd-endpoints {0}: must be a URL like http://10.0.0.1:2379")]
    Url(String),
}

/// This node's certificate, or its key, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// etcd would refuse the certificate.
    #[error("certificate {}: {fault}; the authority of etcd's clients makes a right one", .path.display())]
    Unfit { path: PathBuf, fault: Box<Fault> },
    /// The file of the private key has none that can be used.
    #[error("private key {}: {source}", .path.display())]
    Key { path: PathBuf, source: BoxError },
    /// The private key belongs to another certificate.
    #[error(
        "private key {} is not that of certificate {}: give both files of one certificate", .key.display(), .cert.display()
    )]
    KeyMismatch { key: PathBuf, cert: PathBuf },
}

impl IdentityError {
    /// True if the next start fails, too.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, IdentityError::Unfit { fault, .. } if fault.is_lasting())
    }
}

/// A request failed; a later one may succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No endpoint answered. Each reason names its endpoint.
    #[error("{}", .0.join("; "))]
    NoAnswer(Vec<String>),
    /// An endpoint refused the request.
    #[error("{url}: {reason}")]
    Refused { url: String, reason: Reason },
    /// There is no network configuration. The first sentence is upstream's.
    #[error(
        "flannel config not found in etcd store. Did you create your config using etcdv3 API? \
         etcd has no key {key}; create it: etcdctl put {key} \
         '{{\"Network\":\"10.244.0.0/16\",\"Backend\":{{\"Type\":\"vxlan\"}}}}'"
    )]
    NoConfig { key: String },
    /// The network configuration is not text, or too long.
    #[error("the network configuration in etcd ({key}) cannot be read: {source}; {}", fix(.key))]
    UnreadableConfig { key: String, source: Unreadable },
    /// The network configuration is refused.
    #[error("the network configuration in etcd ({key}) cannot be used: {source}; {}", fix(.key))]
    Config {
        key: String,
        source: network_config::Error,
    },
    /// Another party writes this node's lease all the time.
    #[error("another party writes this node's lease at the same time")]
    Contention,
    /// The attributes of this node cannot be written as JSON.
    #[error("cannot write the lease as JSON: {0}")]
    Attributes(#[source] serde_json::Error),
    /// There are more keys than a node holds.
    #[error("more than {0} keys below {1}")]
    TooManyKeys(usize, String),
    /// The events that the watch needs are gone from etcd.
    #[error("etcd compacted the revisions since {0}: listing the leases again")]
    Compacted(i64),
    /// etcd ended the watch.
    #[error("etcd ended the watch: {0}")]
    WatchEnded(String),
}

fn fix(key: &str) -> String {
    format!("correct it: etcdctl put {key} '...'")
}

/// Why one endpoint did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    /// A certificate or a key cannot be read.
    #[error("{what} {}: {source}", .path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The certificate of this node cannot serve its purpose.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server, or the way there.
    #[error("{}", describe(.0))]
    Client(#[from] etcd_client::Error),
}

/// What the kind of failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another endpoint may do it.
    Endpoint,
    /// The answer is longer than a message may be.
    TooLong,
    /// The revision is no longer there.
    Compacted,
    /// There is no such etcd lease.
    NoLease,
    /// The server does not know users: it serves everybody.
    AuthDisabled,
    /// Every endpoint would refuse it.
    Refused,
}

impl Reason {
    pub(super) fn kind(&self) -> Kind {
        let Reason::Client(error) = self else {
            return Kind::Endpoint;
        };
        let status = match error {
            etcd_client::Error::GRpcStatus(status) => status,
            etcd_client::Error::LeaseKeepAliveError(_) => return Kind::NoLease,
            _ => return Kind::Endpoint,
        };
        let says = |text| status.message().contains(text);
        match status.code() {
            tonic::Code::OutOfRange if says("message length too large") => Kind::TooLong,
            tonic::Code::OutOfRange if says("compacted") => Kind::Compacted,
            tonic::Code::NotFound if says("lease not found") => Kind::NoLease,
            tonic::Code::FailedPrecondition if says("authentication is not enabled") => {
                Kind::AuthDisabled
            }
            tonic::Code::InvalidArgument
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
            | tonic::Code::FailedPrecondition
            | tonic::Code::OutOfRange
            | tonic::Code::Unauthenticated
            | tonic::Code::ResourceExhausted => Kind::Refused,
            _ => Kind::Endpoint,
        }
    }
}

impl Failure {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Failure::Refused { reason, .. } => reason.kind(),
            Failure::Compacted(_) => Kind::Compacted,
            _ => Kind::Endpoint,
        }
    }
}

/// The message with its causes, as a line: the text of the transport's errors leaves them out.
fn describe(error: &etcd_client::Error) -> String {
    let (text, source): (String, Option<&dyn StdError>) = match error {
        etcd_client::Error::GRpcStatus(status) => {
            (status.message().to_owned(), StdError::source(status))
        }
        etcd_client::Error::TransportError(error) => (error.to_string(), error.source()),
        error => (error.to_string(), None),
    };
    let mut texts = vec![text];
    for cause in std::iter::successors(source, |&error| error.source()) {
        let cause = cause.to_string();
        // layers of the transport repeat each other
        if cause != "transport error" && !texts.iter().any(|text| text.contains(&cause)) {
            texts.push(cause);
        }
    }
    let text = one_line(&texts.join(": "));
    match text.contains("permission denied") {
        true => format!(
            "{text}: the user needs read and write permission on the prefix: \
             etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX/"
        ),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_a_server_is_one_short_line() {
        let status =
            tonic::Status::internal(format!("no\nI1122 ok\u{1b}[2J{}", "x".repeat(100_000)));
        let text = Reason::from(etcd_client::Error::from(status)).to_string();
        assert!(text.starts_with("no I1122 ok [2Jxxx"), "{:?}", &text[..40]);
        assert!(text.len() < 500, "{}", text.len());
    }
}
