//! Errors of the client.

use super::cache::LineError;
use crate::{
    model::network_config,
    subnet::{BoxError, TlsError},
};
use hyper::StatusCode;
use hyper_util::client::legacy;
use std::{
    io::{self, ErrorKind},
    time::Duration,
};
use tokio_util::codec::LinesCodecError;

/// `-remote` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("-remote {remote}: {source}")]
pub(crate) struct RemoteError {
    pub(super) remote: String,
    pub(super) source: AddressError,
}

impl RemoteError {
    /// True if options are the reason, not the content of files.
    pub(crate) fn is_usage(&self) -> bool {
        match &self.source {
            AddressError::Tls(error) => error.is_usage(),
            AddressError::Scheme(_)
            | AddressError::Shape(_)
            | AddressError::MissingCertificates
            | AddressError::NeedlessCertificates => true,
        }
    }
}

/// What is wrong with `-remote`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// The scheme is neither http nor https.
    #[error("unsupported scheme {0}://: use http or https")]
    Scheme(String),
    /// There is no host, or no port.
    #[error("{0:?} must be HOST:PORT")]
    Shape(String),
    /// https without certificates.
    #[error("https:// needs -remote-keyfile, -remote-certfile and -remote-cafile")]
    MissingCertificates,
    /// http with certificates.
    #[error("http:// contradicts the certificate flags: use https:// or no scheme")]
    NeedlessCertificates,
    /// The certificates cannot be used, or are missing.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A request failed; a later one may succeed.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {source}")]
pub(super) struct Failed {
    pub(super) url: String,
    pub(super) source: Failure,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The handshake failed.
    #[error("{0}")]
    Certificate(String),
    /// The request cannot be written as HTTP.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// No connection, or no answer.
    #[error("{}", with_causes(.0))]
    Http(#[from] legacy::Error),
    /// The body of the answer broke off, or is too long.
    #[error("{}", with_causes(.0.as_ref()))]
    Body(BoxError),
    /// The server did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server sent no line of the watch, not even a heartbeat.
    #[error("received no data for {0:?}")]
    Silent(Duration),
    /// The watch broke, or a line is too long.
    #[error(transparent)]
    Line(#[from] LinesCodecError),
    /// A line is not JSON of the expected shape.
    #[error("invalid line of the watch: {0}")]
    Json(#[source] go_compat::json::Error),
    /// A line contradicts itself.
    #[error(transparent)]
    Content(#[from] LineError),
    /// The server closed the watch.
    #[error("the server ended the watch")]
    Ended,
    /// The server answered with an error.
    #[error("{status}: {error}")]
    Status { status: StatusCode, error: String },
    /// The answer is not the network configuration.
    #[error(transparent)]
    Config(#[from] network_config::Error),
    /// The answer is not a lease.
    #[error("invalid lease: {0}")]
    Lease(#[source] go_compat::json::Error),
    /// The answer is a lease for another node.
    #[error("requested a lease for {asked}, received one for {got}")]
    OtherNode { asked: String, got: String },
}

/// The causes of an error: the text of hyper's errors leaves them out. The error itself if it has
/// none.
pub(super) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let first = error.source().unwrap_or(error);
    let causes = std::iter::successors(Some(first), |error| error.source());
    let texts: Vec<String> = causes.map(plain).collect();
    texts.join(": ")
}

/// The text of an error, without the address of a library's manual.
fn plain(error: &(dyn std::error::Error + 'static)) -> String {
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if io == Some(ErrorKind::UnexpectedEof) {
        return "the server closed the connection".to_owned();
    }
    let text = error.to_string();
    let end = text.find("https://docs.rs").unwrap_or(text.len());
    text[..end].trim_end_matches([':', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_connection_is_said_in_words() {
        // the text of rustls
        let text = "peer closed connection without sending TLS close_notify: https://docs.rs/x";
        let error = io::Error::new(ErrorKind::UnexpectedEof, text);
        assert_eq!(with_causes(&error), "the server closed the connection");
        let refused = io::Error::other("no: https://docs.rs/x");
        assert_eq!(with_causes(&refused), "no");
    }
}
