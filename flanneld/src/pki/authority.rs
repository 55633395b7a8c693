//! Makes authorities and certificates. Keys are ECDSA P-256.

use super::{
    certificate::Fault,
    identity::{NODE_URI, OPERATORS},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use std::{net::IpAddr, time::Duration};

const DAY: i64 = 24 * 60 * 60;
/// How long an authority lives.
const AUTHORITY_LIFE: i64 = 3652 * DAY;
/// Certificates begin this long before they are made: clocks differ.
const CLOCK_SKEW: i64 = 60 * 60;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The library refuses a name or a key.
    #[error(transparent)]
    Library(#[from] rcgen::Error),
    /// The authority's certificate cannot be used.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[source] Fault),
    /// No random number for the authority's name.
    #[error("no random number: {0}")]
    Random(#[source] getrandom::Error),
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Holder<'a> {
    /// A node; one with addresses or host names may be a server.
    Node { name: &'a str, hosts: &'a [String] },
    /// Somebody who may change every lease.
    Operator { name: &'a str },
}

/// A certificate and its key, PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A key that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its last second, seconds since 1970: no certificate outlives its authority.
    not_after: i64,
}

impl Authority {
    /// A new authority's certificate and key.
    pub(crate) fn create(now: i64) -> Result<Issued, IssueError> {
        let random = getrandom::u32().map_err(IssueError::Random)?;
        let mut params = params(now, now.saturating_add(AUTHORITY_LIFE));
        // two authorities differ in their names, also if both are made on one day
        let name = format!("flannel authority {random:08x}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// An authority that signs, from its files.
    pub(crate) fn load(certificate: &[u8], key: &str) -> Result<Authority, IssueError> {
        let facts = super::Certificate::parse(certificate).map_err(IssueError::Authority)?;
        let key = KeyPair::from_pem(key)?;
        Ok(Authority {
            issuer: Issuer::from_ca_cert_der(&certificate.into(), key)?,
            not_after: facts.not_after(),
        })
    }

    /// A certificate that lives `life` seconds, and no longer than the authority.
    pub(crate) fn issue(
        &self,
        holder: Holder<'_>,
        now: i64,
        life: i64,
    ) -> Result<Issued, IssueError> {
        let mut params = params(now, now.saturating_add(life).min(self.not_after));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        match holder {
            Holder::Operator { name } => {
                params.distinguished_name.push(DnType::CommonName, name);
                params
                    .distinguished_name
                    .push(DnType::OrganizationName, OPERATORS);
            }
            Holder::Node { name, hosts } => {
                params.distinguished_name.push(DnType::CommonName, name);
                let uri = format!("{NODE_URI}{name}").try_into()?;
                params.subject_alt_names.push(SanType::URI(uri));
                for host in hosts {
                    params.subject_alt_names.push(match host.parse::<IpAddr>() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(host.as_str().try_into()?),
                    });
                }
                if !hosts.is_empty() {
                    let server = ExtendedKeyUsagePurpose::ServerAuth;
                    params.extended_key_usages.push(server);
                }
            }
        }
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(now: i64, end: i64) -> CertificateParams {
    let time = |seconds: i64| {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.max(0).unsigned_abs())
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = time(now.saturating_sub(CLOCK_SKEW));
    params.not_after = time(end);
    params
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Certificate, Identity, Use},
        *,
    };
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

    fn der(issued: &Issued) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
    }

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn certificates_name_their_holder_and_fit_their_use() {
        let made = Authority::create(NOW).unwrap();
        let authority = Authority::load(&der(&made), &made.key).unwrap();
        let issue = |holder| {
            let issued = authority.issue(holder, NOW, 365 * DAY).unwrap();
            Certificate::parse(&der(&issued)).unwrap()
        };
        let hosts = ["10.0.0.1".to_owned(), "leases.example".to_owned()];
        let server = issue(Holder::Node {
            name: "node-a",
            hosts: &hosts,
        });
        let client = issue(Holder::Node {
            name: "node-b",
            hosts: &[],
        });
        let operator = issue(Holder::Operator { name: "admin" });
        for (certificate, name) in [(&server, "node-a"), (&client, "node-b")] {
            let name = name.to_owned();
            let expected = Identity::Node { name, unique: true };
            assert_eq!(Identity::of(certificate), expected);
            assert_eq!(certificate.check(Use::Client, NOW), Ok(()));
        }
        assert_eq!(server.check(Use::Server(Some("10.0.0.1")), NOW), Ok(()));
        assert!(client.check(Use::Server(None), NOW).is_err());
        assert_eq!(Identity::of(&operator), Identity::Operator);
        assert_eq!(server.not_after(), NOW + 365 * DAY);
        assert_eq!(server.ends_soon(NOW + 334 * DAY), None);
        assert_eq!(server.ends_soon(NOW + 336 * DAY), Some(NOW + 365 * DAY));
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let made = Authority::create(NOW).unwrap();
        let authority = Authority::load(&der(&made), &made.key).unwrap();
        let holder = Holder::Operator { name: "admin" };
        let issued = authority.issue(holder, NOW, i64::MAX).unwrap();
        let certificate = Certificate::parse(&der(&issued)).unwrap();
        assert_eq!(certificate.not_after(), NOW + AUTHORITY_LIFE);
    }
}
