//! Requests to the lease server: a connection each, since they are rare. Certificates are read
//! again for each, so that rotated ones are used without a restart.

use super::error::{AddressError, Failed, Failure, RemoteError, with_causes};
use crate::{
    model::Subnets,
    one_line::one_line,
    subnet::{
        Error, alloc,
        embedded::wire::{LINE_LIMIT, Line},
        tls::{self, ClientTls, TlsFiles},
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
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::Deserialize;
use std::{io, net::IpAddr, time::Duration};
use tokio::time::timeout;
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    io::StreamReader,
};

/// For a connection, and for an answer, which may wait for the server's disk.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of an answer that is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: String,
    code: String,
    min: String,
    max: String,
}

/// How to reach the server.
#[derive(Debug, Clone)]
pub(crate) struct ClientOptions {
    /// `-remote`: HOST:PORT, or http:// or https:// before it.
    pub(crate) remote: String,
    /// Mutual TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// `-insecure`: no TLS off loopback.
    pub(crate) insecure: bool,
    /// `-subnet-lease-renew-margin`: how long before its end a lease is renewed.
    pub(crate) renew_margin: Duration,
}

/// The server's address.
pub(super) struct Http {
    /// HOST:PORT, with brackets around an IPv6 address.
    authority: String,
    tls: Option<ClientTls>,
}

impl Http {
    pub(super) fn new(options: &ClientOptions) -> Result<Http, RemoteError> {
        let authority = authority(options).map_err(|source| RemoteError {
            remote: options.remote.clone(),
            source,
        })?;
        Ok(Http {
            authority,
            tls: options.tls.clone().map(ClientTls::new),
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
            .unwrap_or(Err(Failure::Timeout(REQUEST_TIMEOUT)))
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
            .unwrap_or(Err(Failure::Timeout(REQUEST_TIMEOUT)))
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
            None => client.build_http().request(request).await?,
            Some(tls) => {
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(tls.config()?)
                    .https_only()
                    .enable_http1()
                    .build();
                let response = client.build(connector).request(request).await;
                response.map_err(|error| match tls.in_words(&self.authority, &error) {
                    Some(words) => Failure::Certificate(words),
                    None => error.into(),
                })?
            }
        };
        Ok(response)
    }

    pub(super) fn failed(&self, failure: impl Into<Failure>) -> Error {
        Error::Transient(Box::new(Failed {
            url: self.url(),
            source: failure.into(),
        }))
    }

    /// What an answer that is an error means.
    pub(super) fn refused(&self, status: StatusCode, body: &[u8], subnets: Subnets) -> Error {
        // a proxy in between answers with other bodies
        let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let [error, min, max] = [&body.error, &body.min, &body.max].map(|text| one_line(text));
        match (status, body.code.as_str()) {
            (StatusCode::GONE, _) => Error::Revoked(subnets),
            (StatusCode::NOT_FOUND, "unknown") => Error::Unknown(subnets),
            (StatusCode::CONFLICT, "out-of-subnets") => {
                Error::Alloc(alloc::Error::OutOfSubnets { min, max })
            }
            // until the other node has stopped
            (StatusCode::CONFLICT, "node-runs") => self.failed(Failure::Status { status, error }),
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
    fn what_a_server_answers_is_one_short_line() {
        let http = Http::new(&options("127.0.0.1:8888", false)).unwrap();
        let forged = format!("no\nlevel=info msg=fine\u{1b}[2J{}", "x".repeat(100_000));
        for code in ["taken", "out-of-subnets", "node-runs", "body"] {
            let body = serde_json::json!({"code": code, "error": forged, "min": forged});
            for status in [400, 409, 500] {
                let status = StatusCode::from_u16(status).unwrap();
                let body = body.to_string();
                let error = http.refused(status, body.as_bytes(), Subnets::default());
                let text = error.to_string();
                assert!(!text.contains(char::is_control), "{text:?}");
                assert!(text.len() < 1000, "{} bytes", text.len());
            }
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
