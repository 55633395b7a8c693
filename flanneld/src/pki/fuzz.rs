//! The fuzz target of certificates.

use super::{Authority, Certificate, Identity, Use};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A certificate as DER, or a file with PEM. Names and reasons are for the log: a line each.
pub(crate) fn certificate(bytes: &[u8]) {
    let pem = CertificateDer::pem_slice_iter(bytes).take(8);
    let pem: Vec<_> = pem.filter_map(Result::ok).collect();
    for der in pem.iter().map(AsRef::as_ref).chain([bytes]) {
        read(der);
    }
    PrivateKeyDer::from_pem_slice(bytes).ok();
    // an authority's files, as one
    if let Some(der) = pem.first() {
        Authority::load(der, &String::from_utf8_lossy(bytes)).ok();
    }
}

fn read(der: &[u8]) {
    let certificate = match Certificate::parse(der) {
        Ok(certificate) => certificate,
        Err(fault) => return is_line(&fault.to_string()),
    };
    if let Identity::Node { name, .. } = Identity::of(&certificate) {
        is_line(&name);
        assert!(!name.is_empty() && name.len() < 4096, "{name}");
    }
    for now in [0, 1_800_000_000, i64::MAX, i64::MIN] {
        certificate.ends_soon(now);
        for what in [
            Use::Client,
            Use::Server(None),
            Use::Server(Some("10.0.0.1")),
        ] {
            if let Err(fault) = certificate.check(what, now) {
                is_line(&fault.to_string());
            }
        }
    }
    assert_eq!(
        certificate.is_issued_by(&certificate),
        Certificate::parse(der).is_ok_and(|again| again.is_issued_by(&certificate))
    );
}

fn is_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}
