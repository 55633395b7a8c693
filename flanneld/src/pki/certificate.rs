//! What a certificate says, and whether it can serve its purpose.

use jiff::Timestamp;
use std::{fmt::Display, net::IpAddr};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName},
    prelude::FromDer,
    x509::X509Version,
};

/// Warnings begin this long before the end, seconds.
const WARNING_PERIOD: i64 = 30 * 24 * 60 * 60;

/// What flanneld reads of a certificate.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Certificate {
    /// X.509: 1 or 3.
    version: u32,
    /// Seconds since 1970.
    not_before: i64,
    not_after: i64,
    /// The names of the issuer and of the subject, DER.
    issuer: Vec<u8>,
    subject: Vec<u8>,
    pub(super) common_name: Option<String>,
    pub(super) organizations: Vec<String>,
    pub(super) uris: Vec<String>,
    addresses: Vec<IpAddr>,
    host_names: Vec<String>,
    /// None: it has no extended key usage, which allows every use.
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    client: bool,
    server: bool,
}

/// What its holder does with a certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Use<'a> {
    /// Connects to a lease server.
    Client,
    /// Serves leases at this host, an address or a name; None: at every address.
    Server(Option<&'a str>),
}

/// Why a certificate cannot serve its purpose. The texts continue "certificate FILE: ".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    /// It is not DER of the shape that RFC 5280 gives.
    #[error("it is not a certificate that can be read: {0}")]
    Unreadable(String),
    /// Version 1 has no extensions: neither addresses nor uses.
    #[error("it is of X.509 version {0}, and TLS needs version 3")]
    Version(u32),
    #[error("it has expired on {}", date(*.0))]
    Expired(i64),
    #[error("it is not valid before {}; check this machine's clock", date(*.0))]
    NotYetValid(i64),
    /// Its extended key usage lacks a use.
    #[error("it may not be used by a {who}: its extended key usage has no {usage}")]
    Usage {
        who: &'static str,
        usage: &'static str,
    },
    /// A server's certificate has no address and no name.
    #[error("it names no address, so that no node would accept this server")]
    NoAddress,
    /// A server's certificate is for other addresses.
    #[error("it is for {present}, and not for {wanted}, where the leases are served")]
    Address { wanted: String, present: String },
}

impl Fault {
    /// False if time may mend it: the clock may be wrong until it is set, and a file may be about
    /// to be replaced.
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(self, Fault::NotYetValid(_) | Fault::Unreadable(_))
    }
}

impl Certificate {
    /// Reads DER.
    pub(crate) fn parse(der: &[u8]) -> Result<Certificate, Fault> {
        let unreadable = |error: &dyn Display| Fault::Unreadable(error.to_string());
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(unreadable(&"there are bytes after its end"));
        }
        let mut read = Certificate {
            version: match certificate.version() {
                X509Version(number) => number.saturating_add(1),
            },
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            issuer: certificate.issuer().as_raw().to_owned(),
            subject: certificate.subject().as_raw().to_owned(),
            ..Certificate::default()
        };
        let subject = certificate.subject();
        let mut names = subject.iter_common_name();
        read.common_name = names.next().and_then(|name| name.as_str().ok()).map(text);
        let organizations = subject.iter_organization();
        read.organizations = organizations
            .filter_map(|name| name.as_str().ok().map(text))
            .collect();
        let usage = certificate.extended_key_usage();
        read.usage = usage
            .map_err(|error| unreadable(&error))?
            .map(|usage| Usage::from(usage.value));
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|error| unreadable(&error))?;
        for name in names
            .iter()
            .flat_map(|names| names.value.general_names.iter())
        {
            match name {
                GeneralName::URI(uri) => read.uris.push(text(uri)),
                GeneralName::DNSName(name) => read.host_names.push(text(name)),
                GeneralName::IPAddress(bytes) => read.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(read)
    }

    /// Whether it can be used, at `now`, seconds since 1970.
    pub(crate) fn check(&self, what: Use<'_>, now: i64) -> Result<(), Fault> {
        if self.version != 3 {
            return Err(Fault::Version(self.version));
        }
        if now > self.not_after {
            return Err(Fault::Expired(self.not_after));
        }
        if now < self.not_before {
            return Err(Fault::NotYetValid(self.not_before));
        }
        match (what, self.usage) {
            (Use::Client, Some(Usage { client: false, .. })) => Err(Fault::Usage {
                who: "client",
                usage: "clientAuth",
            }),
            (Use::Server(_), Some(Usage { server: false, .. })) => Err(Fault::Usage {
                who: "server",
                usage: "serverAuth",
            }),
            (Use::Server(host), _) => self.check_host(host),
            (Use::Client, _) => Ok(()),
        }
    }

    /// An address that the certificate does not name is a fault, unless nodes may use one of its
    /// names; another host name may be an alias of those that it names.
    fn check_host(&self, host: Option<&str>) -> Result<(), Fault> {
        if self.addresses.is_empty() && self.host_names.is_empty() {
            return Err(Fault::NoAddress);
        }
        let wanted = host.and_then(|host| host.parse::<IpAddr>().ok());
        match wanted {
            Some(wanted) if self.host_names.is_empty() && !self.addresses.contains(&wanted) => {
                Err(Fault::Address {
                    wanted: wanted.to_string(),
                    present: self.hosts(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Its addresses and host names, for messages.
    fn hosts(&self) -> String {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let names = self.host_names.iter().cloned();
        addresses.chain(names).collect::<Vec<_>>().join(", ")
    }

    /// When it ends, seconds since 1970.
    pub(super) fn not_after(&self) -> i64 {
        self.not_after
    }

    /// True if the authority with this certificate is the one that it names.
    pub(crate) fn is_issued_by(&self, authority: &Certificate) -> bool {
        self.issuer == authority.subject
    }

    /// Seconds since 1970 at which it ends, if that is within 30 days of `now`.
    pub(crate) fn ends_soon(&self, now: i64) -> Option<i64> {
        (self.not_after.saturating_sub(now) < WARNING_PERIOD).then_some(self.not_after)
    }
}

impl From<&ExtendedKeyUsage<'_>> for Usage {
    fn from(usage: &ExtendedKeyUsage<'_>) -> Usage {
        // RFC 5280 lets "any" stand for each use; the TLS library does not
        Usage {
            client: usage.client_auth,
            server: usage.server_auth,
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Text of a certificate. A control character, which could forge a line of the log, is replaced.
fn text(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// A day, of seconds since 1970.
pub(crate) fn date(seconds: i64) -> impl Display {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => "a time out of range".to_owned(),
    }
}
