//! Failed TLS handshakes in words: whose certificate is wrong, in what, and what to do.

use super::certificate::date;
use std::{error::Error, io, path::Path};
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, InconsistentKeys, InvalidMessage, pki_types::UnixTime,
};

/// How the reader of a message gets a certificate.
const ISSUE: &str = "on the machine of the authority `flanneld pki issue NAME` makes a right one";

/// The files of a client, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientFiles<'a> {
    /// The lease server, as `-remote` names it.
    pub(crate) server: &'a str,
    pub(crate) certificate: &'a Path,
    pub(crate) authority: &'a Path,
}

/// What a client says of a connection that failed because of TLS; None if it failed for another
/// reason.
pub(crate) fn server_refused(
    error: &(dyn Error + 'static),
    files: ClientFiles<'_>,
) -> Option<String> {
    let (server, authority) = (files.server, files.authority.display());
    Some(match tls_error(error)? {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the lease server's certificate is not from the authority in {authority}: copy the ca.crt of its \
                 authority there"
            ),
            error => {
                let host = host(server);
                format!(
                    "the lease server's certificate {}: on the machine of the authority `flanneld pki issue NAME {host}` \
                     makes a right one, NAME being the server's",
                    wrong(error)
                )
            }
        },
        rustls::Error::AlertReceived(alert) => {
            let certificate = files.certificate.display();
            let why = match alert {
                AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                    "it is not from an authority in the server's -remote-cafile"
                }
                AlertDescription::CertificateExpired => "it has expired, or the clocks differ",
                AlertDescription::UnsupportedCertificate => "it may not be used by a client",
                AlertDescription::CertificateRequired => "it was not shown",
                _ => "the server's log says why",
            };
            format!("the lease server refuses this node's certificate {certificate}: {why}; {ISSUE}")
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the other side does not speak TLS: it is no lease server, or one without -remote-certfile"
                .to_owned()
        }
        other => format!("TLS with the lease server failed: {other}"),
    })
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
        rustls::Error::AlertReceived(alert) => {
            format!("it does not accept this server's certificate ({alert:?}): its log says why")
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
    fn a_wrapped_error_is_found() {
        let inner = rustls::Error::NoCertificatesPresented;
        let error = io::Error::other(io::Error::other(inner));
        assert!(client_refused(&error).contains("shows no certificate"));
        assert!(tls_error(&io::Error::other("x")).is_none());
    }
}
