//! Failed TLS handshakes in words: whose certificate is wrong, in what, and what to do.

use super::certificate::date;
use std::{error::Error, fmt, io, path::Path};
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, InconsistentKeys, InvalidMessage, pki_types::UnixTime,
};

/// How the reader of a message gets a certificate.
const ISSUE: &str = "on the machine of the authority `flanneld pki issue NAME` makes a right one";

/// The other side of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    LeaseServer,
    Etcd,
    ApiServer,
}

/// What a client uses, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientFiles<'a> {
    pub(crate) peer: Peer,
    /// HOST:PORT, as the option names it.
    pub(crate) server: &'a str,
    /// None: it shows none.
    pub(crate) certificate: Option<&'a Path>,
    /// None: the system's.
    pub(crate) authority: Option<&'a Path>,
}

/// What a client says of a connection that failed because of TLS; None if it failed for another
/// reason.
pub(crate) fn server_refused(
    error: &(dyn Error + 'static),
    files: ClientFiles<'_>,
) -> Option<String> {
    let peer = files.peer;
    Some(match tls_error(error)? {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => files.unknown_authority(),
        rustls::Error::InvalidCertificate(error) => {
            format!("{peer}'s certificate {}: {}", wrong(error), files.remedy())
        }
        rustls::Error::AlertReceived(alert) => files.refused(*alert),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => match peer {
            Peer::LeaseServer => {
                "the other side does not speak TLS: it is no lease server, or one without -remote-certfile"
            }
            Peer::Etcd => "the other side does not speak TLS: write http:// in -etcd-endpoints",
            Peer::ApiServer => "the other side does not speak TLS: it is no API server",
        }
        .to_owned(),
        other => format!("TLS with {peer} failed: {other}"),
    })
}

impl ClientFiles<'_> {
    fn unknown_authority(&self) -> String {
        let peer = self.peer;
        match (self.authority, peer) {
            (_, Peer::ApiServer) => format!(
                "{peer}'s certificate is not from the authority of the kubeconfig or service account: replace its \
                 certificate-authority (ca.crt)"
            ),
            (Some(authority), Peer::LeaseServer) => format!(
                "{peer}'s certificate is not from the authority in {}: copy the ca.crt of its authority there",
                authority.display()
            ),
            (Some(authority), Peer::Etcd) => format!(
                "{peer}'s certificate is not from the authority in {}: name the file of its authority with -etcd-cafile",
                authority.display()
            ),
            (None, _) => format!(
                "{peer}'s certificate is not from an authority that this system trusts: name the file of its authority \
                 with -etcd-cafile"
            ),
        }
    }

    /// How the other side gets a right certificate.
    fn remedy(&self) -> String {
        let host = host(self.server);
        match self.peer {
            Peer::LeaseServer => format!(
                "on the machine of the authority `flanneld pki issue NAME {host}` makes a right one, NAME being the \
                 server's"
            ),
            Peer::Etcd => format!(
                "etcd needs another one (--cert-file) from its authority, valid and with {host} among its names"
            ),
            Peer::ApiServer => {
                "it needs another one (--tls-cert-file), valid and with the address that nodes use \
                                among its names"
                    .to_owned()
            }
        }
    }

    /// The other side ended the handshake.
    fn refused(&self, alert: AlertDescription) -> String {
        let peer = self.peer;
        if peer == Peer::ApiServer {
            return format!(
                "{peer} refuses the client certificate of the kubeconfig: its log says why; renew the certificate"
            );
        }
        let Some(certificate) = self.certificate.filter(|_| !demands(alert)) else {
            return format!(
                "{peer} demands a certificate of this node: give {}",
                match peer {
                    Peer::Etcd => "-etcd-certfile and -etcd-keyfile",
                    _ => "-remote-certfile and -remote-keyfile",
                }
            );
        };
        let (authorities, remedy) = match peer {
            Peer::Etcd => (
                "etcd's --trusted-ca-file",
                "the authority of etcd's clients makes a right one",
            ),
            _ => ("the server's -remote-cafile", ISSUE),
        };
        let why = match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                format!("it is not from an authority in {authorities}")
            }
            AlertDescription::CertificateExpired => {
                "it has expired, or the clocks differ".to_owned()
            }
            AlertDescription::UnsupportedCertificate => "it may not be used by a client".to_owned(),
            _ => "the server's log says why".to_owned(),
        };
        let certificate = certificate.display();
        format!("{peer} refuses this node's certificate {certificate}: {why}; {remedy}")
    }
}

/// True if the server was shown no certificate.
fn demands(alert: AlertDescription) -> bool {
    alert == AlertDescription::CertificateRequired
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::LeaseServer => "the lease server",
            Peer::Etcd => "etcd",
            Peer::ApiServer => "the API server",
        })
    }
}

/// What a server says of a client whose handshake failed.
pub(crate) fn client_refused(error: &io::Error) -> String {
    let Some(tls) = tls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "it closed the connection during the TLS handshake".into()
            }
            _ => format!("the connection broke during the TLS handshake: {error}"),
        };
    };
    match tls {
        rustls::Error::NoCertificatesPresented => {
            "it shows no certificate: it needs -remote-keyfile and -remote-certfile".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!("its certificate is not from an authority in -remote-cafile: {ISSUE}"),
        rustls::Error::InvalidCertificate(error) => {
            format!("its certificate {}: {ISSUE}", wrong(error))
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::DecryptError,
        ) => "it does not know the authority of this server's certificate: its -remote-cafile is \
              another one"
            .to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it takes this server's certificate for expired: compare the clocks of both machines"
                .to_owned()
        }
        rustls::Error::AlertReceived(_) => {
            "it does not accept this server's certificate: its log says why".to_owned()
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS: it needs -remote-keyfile, -remote-certfile and -remote-cafile"
                .to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

/// True if a private key is not that of the certificate.
pub(crate) fn is_key_mismatch(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)
    )
}

/// What is wrong with a certificate; continues "the certificate".
fn wrong(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("has expired on {}", date(seconds(not_after)))
        }
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "is not valid before {} (check the clocks of both machines)",
            date(seconds(not_before))
        ),
        CertificateError::NotValidYet => "is not valid yet (check the clocks)".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } if !presented.is_empty() => {
            let presented = presented.iter().map(|name| plain_name(name));
            let presented = presented.collect::<Vec<_>>().join(", ");
            format!("is for {presented}, not for {}", expected.to_str())
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "names no address".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not made for this side of a connection (its extended key usage)".to_owned()
        }
        CertificateError::BadEncoding => "cannot be read".to_owned(),
        other => format!(
            "cannot be used: {}",
            rustls::Error::InvalidCertificate(other.clone())
        ),
    }
}

/// `IpAddress(10.0.0.1)` and `DnsName("a")` without their shells.
fn plain_name(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_matches([')', '"'])
}

fn seconds(time: &UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// HOST of HOST:PORT, without brackets.
fn host(server: &str) -> &str {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

/// The error of the TLS library among the causes of an error.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // the source of an I/O error is that of the error which it wraps
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_library_become_plain() {
        assert_eq!(plain_name("IpAddress(10.0.0.1)"), "10.0.0.1");
        assert_eq!(plain_name("DnsName(\"leases.example\")"), "leases.example");
        assert_eq!(plain_name("odd"), "odd");
        assert_eq!(host("[fd00::1]:8888"), "fd00::1");
        assert_eq!(host("leases.example:8888"), "leases.example");
    }

    #[test]
    fn each_server_is_named_with_what_it_needs() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let demands = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        for (error, peer, expected) in [
            (&unknown, Peer::Etcd, "that this system trusts"),
            (
                &expired,
                Peer::Etcd,
                "etcd's certificate has expired: etcd needs another one",
            ),
            (
                &demands,
                Peer::Etcd,
                "give -etcd-certfile and -etcd-keyfile",
            ),
            (
                &expired,
                Peer::LeaseServer,
                "`flanneld pki issue NAME 10.0.0.1`",
            ),
            (
                &demands,
                Peer::LeaseServer,
                "give -remote-certfile and -remote-keyfile",
            ),
            (
                &expired,
                Peer::ApiServer,
                "the API server's certificate has expired: ",
            ),
        ] {
            let files = ClientFiles {
                peer,
                server: "10.0.0.1:2379",
                certificate: None,
                authority: None,
            };
            let text = server_refused(error, files).unwrap();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_wrapped_error_is_found() {
        let inner = rustls::Error::NoCertificatesPresented;
        let error = io::Error::other(io::Error::other(inner));
        assert!(client_refused(&error).contains("shows no certificate"));
        assert!(tls_error(&io::Error::other("x")).is_none());
    }
}
