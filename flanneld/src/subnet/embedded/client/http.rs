//! Requests to the lease server: a connection each, since they are rare. Certificates are read
//! again for each, so that rotated ones are used without a restart.
use super::ClientOptions;
use crate::{
    model::Subnets,
    subnet::{
        Error, alloc,
        embedded::{
            client::cache::LineError,
            wire::{LINE_LIMIT, Line},
        },
        tls::{self, TlsError, TlsFiles},
    },
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{self, Client},
    rt::TokioExecutor,
};
use serde::Deserialize;
use std::{io, net::IpAddr, time::Duration};
use tokio::time::timeout;
use tokio_util::{
    codec::{FramedRead, LinesCodec, LinesCodecError},
    io::StreamReader,
};

/// For a connection, and for an answer, which may wait for the server's disk.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// `-remote` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("-remote {remote}: {source}")]
pub(crate) struct RemoteError {
    remote: String,
    source: AddressError,
}

/// What is wrong with `-remote`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// The scheme is neither http nor https.
    #[error("{0}:// is not known, only http and https")]
    Scheme(String),
    /// There is no host, or no port.
    #[error("{0:?} must be HOST:PORT")]
    Shape(String),
    /// https without certificates.
    #[error("https:// needs -remote-keyfile, -remote-certfile and -remote-cafile")]
    MissingCertificates,
    /// http with certificates.
    #[error("http:// contradicts the certificates: say https://, or nothing")]
    NeedlessCertificates,
    /// The certificates cannot be used, or are missing.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A request failed; a later one may succeed.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {source}")]
pub(super) struct Failed {
    url: String,
    source: Failure,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The request cannot be written as HTTP.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// No connection, or no answer.
    #[error("{}", with_causes(.0))]
    Http(#[from] legacy::Error),
    /// The body of the answer broke off, or is too long.
    #[error("{}", with_causes(.0.as_ref()))]
    Body(crate::subnet::BoxError),
    /// The server did not answer in time.
    #[error("no answer within {REQUEST_TIMEOUT:?}")]
    Timeout,
    /// The server sent no line of the watch, not even a heartbeat.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// The watch broke, or a line is too long.
    #[error(transparent)]
    Line(#[from] LinesCodecError),
    /// A line is not JSON of the expected shape.
    #[error("not a line of a watch: {0}")]
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
    Config(#[from] crate::model::network_config::Error),
    /// The answer is not a lease.
    #[error("not a lease: {0}")]
    Lease(#[source] go_compat::json::Error),
    /// The answer is a lease for another node.
    #[error("asked for a lease for {asked}, got one for {got}")]
    OtherNode { asked: String, got: String },
}

/// The body of an answer that is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: String,
    code: String,
    min: String,
    max: String,
}

/// The server's address.
pub(super) struct Http {
    /// HOST:PORT, with brackets around an IPv6 address.
    authority: String,
    tls: Option<TlsFiles>,
}

impl Http {
    pub(super) fn new(options: &ClientOptions) -> Result<Http, RemoteError> {
        let authority = authority(options).map_err(|source| RemoteError {
            remote: options.remote.clone(),
            source,
        })?;
        Ok(Http {
            authority,
            tls: options.tls.clone(),
        })
    }

    /// For messages, and before each path.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// A request and its whole answer; `subnets` are those that it is about.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: String,
        subnets: Subnets,
    ) -> Result<Bytes, Error> {
        let call = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LINE_LIMIT).collect();
            let body = body.await.map_err(Failure::Body)?.to_bytes();
            Ok((status, body))
        };
        let (status, body) = timeout(REQUEST_TIMEOUT, call)
            .await
            .unwrap_or(Err(Failure::Timeout))
            .map_err(|failure| self.failed(failure))?;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(self.refused(status, &body, subnets)),
        }
    }

    /// The lines of a watch. A line that is not there yet may be awaited again after a
    /// cancellation.
    pub(super) async fn watch(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Line, Failure>> + Unpin + use<>, Error> {
        let response = timeout(REQUEST_TIMEOUT, self.send(Method::GET, path, String::new()))
            .await
            .unwrap_or(Err(Failure::Timeout))
            .map_err(|failure| self.failed(failure))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response.status(), b"", Subnets::default()));
        }
        let bytes = response.into_body().into_data_stream();
        let bytes = bytes.map_err(|error| io::Error::other(with_causes(&error)));
        let codec = LinesCodec::new_with_max_length(LINE_LIMIT);
        let lines = FramedRead::new(StreamReader::new(bytes), codec);
        Ok(lines.map(|line| go_compat::json::from_slice(line?.as_bytes()).map_err(Failure::Json)))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url()))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(body))?;
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        let response = match &self.tls {
            None => client.build_http().request(request).await,
            Some(files) => {
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(files.client()?)
                    .https_only()
                    .enable_http1()
                    .build();
                client.build(connector).request(request).await
            }
        };
        Ok(response?)
    }

    pub(super) fn failed(&self, failure: impl Into<Failure>) -> Error {
        Error::Transient(Box::new(Failed {
            url: self.url(),
            source: failure.into(),
        }))
    }

    /// What an answer that is an error means.
    fn refused(&self, status: StatusCode, body: &[u8], subnets: Subnets) -> Error {
        // a proxy in between answers with other bodies
        let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let error = body.error;
        match (status, body.code.as_str()) {
            (StatusCode::GONE, _) => Error::Revoked(subnets),
            (StatusCode::NOT_FOUND, "unknown") => Error::Unknown(subnets),
            (StatusCode::CONFLICT, "out-of-subnets") => Error::Alloc(alloc::Error::OutOfSubnets {
                min: body.min,
                max: body.max,
            }),
            (StatusCode::CONFLICT, _) => {
                let by = error
                    .rsplit_once(" belongs to ")
                    .map(|(_, by)| by.to_owned());
                let by = by.unwrap_or(error);
                Error::Taken { subnets, by }
            }
            (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, _) => {
                Error::Permanent(Box::new(Failed {
                    url: self.url(),
                    source: Failure::Status { status, error },
                }))
            }
            _ => self.failed(Failure::Status { status, error }),
        }
    }
}

/// HOST:PORT of the options, if they can be used together.
fn authority(options: &ClientOptions) -> Result<String, AddressError> {
    let (https, address) = match options.remote.split_once("://") {
        Some(("http", rest)) => (Some(false), rest),
        Some(("https", rest)) => (Some(true), rest),
        Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
        None => (None, options.remote.as_str()),
    };
    let address = address.strip_suffix('/').unwrap_or(address);
    let shape = || AddressError::Shape(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
    let ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if host.is_empty() || (ipv6.is_none() && host.contains(':')) || port.parse() == Ok(0u16) {
        return Err(shape());
    }
    port.parse::<u16>().map_err(|_| shape())?;
    match (https, &options.tls) {
        (Some(true), None) => return Err(AddressError::MissingCertificates),
        (Some(false), Some(_)) => return Err(AddressError::NeedlessCertificates),
        _ => {}
    }
    // what another name resolves to is not known yet: it counts as off loopback
    let ip = ipv6.unwrap_or(host).parse();
    let loopback = host == "localhost" || ip.is_ok_and(|ip: IpAddr| ip.is_loopback());
    tls::require(address, loopback, options.tls.is_some(), options.insecure)?;
    if let Some(files) = &options.tls {
        files.client()?;
    }
    Ok(address.to_owned())
}

/// The causes of an error: the text of hyper's errors leaves them out. The error itself if it has
/// none.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let first = error.source().unwrap_or(error);
    let causes = std::iter::successors(Some(first), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(remote: &str, insecure: bool) -> ClientOptions {
        ClientOptions {
            remote: remote.to_owned(),
            tls: None,
            insecure,
            renew_margin: Duration::from_secs(3600),
        }
    }

    #[test]
    fn remote_is_host_and_port_with_or_without_scheme() {
        for (remote, url) in [
            ("127.0.0.1:8888", "http://127.0.0.1:8888"),
            ("http://localhost:8888/", "http://localhost:8888"),
            ("[::1]:8888", "http://[::1]:8888"),
        ] {
            let http = Http::new(&options(remote, false)).unwrap();
            assert_eq!(http.url(), url);
        }
        for bad in [
            "",
            "host",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:x",
            ":8888",
            "::1:8888",
            "ftp://localhost:1",
        ] {
            assert!(Http::new(&options(bad, true)).is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_http_off_loopback_needs_insecure() {
        for remote in [
            "10.0.0.1:8888",
            "leases.example:8888",
            "http://[fd00::1]:8888",
        ] {
            let error = Http::new(&options(remote, false))
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains("-insecure"), "{error}");
            assert!(Http::new(&options(remote, true)).is_ok());
        }
        let error = Http::new(&options("https://10.0.0.1:8888", true))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("-remote-keyfile"), "{error}");
    }
}
