//! Requests to the lease server: a connection each, since they are rare. Certificates are read anew for each, so that
//! rotated ones are used without a restart.
use super::ClientOptions;
use crate::subnet::{
    Error,
    embedded::{TlsFiles, keep::Refused, tls, wire::LINE_LIMIT},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::{net::IpAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::rustls::pki_types::ServerName;

/// For a connection, and for an answer (which may wait for the server's disk).
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the server is.
pub struct Http {
    host: String,
    port: u16,
    tls: Option<TlsFiles>,
}

/// A body that is read as it comes.
pub struct Stream {
    body: Incoming,
    _connection: Connection,
}

/// What the server says when it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: String,
    code: String,
    min: String,
    max: String,
}

impl Http {
    /// From the options. Err: what is wrong with them.
    pub fn new(options: &ClientOptions) -> Result<Http, String> {
        let (tls_wanted, address) = match options.remote.split_once("://") {
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some((scheme, _)) => {
                return Err(format!("{scheme}:// is not known, only http and https"));
            }
            None => (None, options.remote.as_str()),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let shape = || format!("{address:?} must be HOST:PORT");
        let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(inner) => inner,
            None if host.contains(':') => return Err(shape()),
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0);
        let (Some(port), false) = (port, host.is_empty()) else {
            return Err(shape());
        };
        match (tls_wanted, &options.tls) {
            (Some(true), None) => {
                return Err(
                    "https:// needs -remote-keyfile, -remote-certfile and -remote-cafile".into(),
                );
            }
            (Some(false), Some(_)) => {
                return Err(
                    "http:// contradicts the certificates: say https://, or nothing".into(),
                );
            }
            _ => {}
        }
        // what another name means is not known yet: it counts as off loopback
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        tls::permitted(address, loopback, options.tls.is_some(), options.insecure)?;
        if let Some(files) = &options.tls {
            files.connector()?;
        }
        Ok(Http {
            host: host.to_owned(),
            port,
            tls: options.tls.clone(),
        })
    }

    /// For messages.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// One request and its whole answer.
    pub async fn call(&self, method: Method, path: &str, body: String) -> Result<Bytes, Refused> {
        let whole = async {
            let (response, _connection) = self.send(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LINE_LIMIT)
                .collect()
                .await
                .map_err(|error| self.not_now(error))?
                .to_bytes();
            if status == StatusCode::OK {
                Ok(body)
            } else {
                Err(self.refused(status, &body))
            }
        };
        match timeout(PATIENCE, whole).await {
            Ok(result) => result,
            Err(_) => Err(self.not_now(format!("no answer within {PATIENCE:?}"))),
        }
    }

    /// A request whose answer has no end.
    pub async fn stream(&self, path: &str) -> Result<Stream, Refused> {
        let head = async {
            let (response, connection) = self.send(Method::GET, path, String::new()).await?;
            if response.status() != StatusCode::OK {
                return Err(self.refused(response.status(), b""));
            }
            Ok(Stream {
                body: response.into_body(),
                _connection: connection,
            })
        };
        match timeout(PATIENCE, head).await {
            Ok(result) => result,
            Err(_) => Err(self.not_now(format!("no answer within {PATIENCE:?}"))),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(Response<Incoming>, Connection), Refused> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| self.not_now(error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.authority())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| self.not_now(error))?;
        match &self.tls {
            None => self.exchange(stream, request).await,
            Some(files) => {
                let connector = files.connector().map_err(|error| self.not_now(error))?;
                let name =
                    ServerName::try_from(self.host.clone()).map_err(|error| self.not_now(error))?;
                let stream = connector
                    .connect(name, stream)
                    .await
                    .map_err(|error| self.not_now(format!("TLS: {error}")))?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.not_now(error))?;
        let connection = Connection(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("lease server: {error}");
            }
        }));
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.not_now(chain(&error)))?;
        Ok((response, connection))
    }

    fn not_now(&self, reason: impl ToString) -> Refused {
        Refused::NotNow(format!("{}: {}", self.url(), reason.to_string()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Refused {
        let said: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let text = format!("{}: {status}: {}", self.url(), said.error);
        match (status, said.code.as_str()) {
            (StatusCode::GONE, _) => Refused::Revoked,
            (StatusCode::NOT_FOUND, "unknown") => Refused::Unknown,
            (StatusCode::CONFLICT, "out-of-subnets") => Refused::Never(Error::OutOfSubnets {
                min: said.min,
                max: said.max,
            }),
            (StatusCode::CONFLICT, _) => Refused::HeldBy(said.error),
            (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, _) => {
                Refused::Never(Error::Other(text))
            }
            _ => Refused::NotNow(text),
        }
    }
}

impl Stream {
    /// The next bytes; None at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(chain(&error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// The task that moves a connection's bytes; it ends with this value.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An error with its causes: hyper's own text alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
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
    fn addresses() {
        for (remote, url) in [
            ("127.0.0.1:8888", "http://127.0.0.1:8888"),
            ("http://localhost:8888/", "http://localhost:8888"),
            ("[::1]:8888", "http://[::1]:8888"),
        ] {
            assert_eq!(
                Http::new(&options(remote, false)).map(|http| http.url()),
                Ok(url.into())
            );
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
    fn off_loopback_without_tls_needs_the_word() {
        for remote in [
            "10.0.0.1:8888",
            "leases.example:8888",
            "http://[fd00::1]:8888",
        ] {
            let error = Http::new(&options(remote, false)).err().unwrap();
            assert!(error.contains("-insecure"), "{error}");
            assert!(Http::new(&options(remote, true)).is_ok());
        }
        let error = Http::new(&options("https://10.0.0.1:8888", true))
            .err()
            .unwrap();
        assert!(error.contains("-remote-keyfile"), "{error}");
    }
}
