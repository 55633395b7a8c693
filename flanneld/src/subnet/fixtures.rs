//! A certificate authority for the servers and clients of tests.

use super::TlsFiles;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{fs, path::Path};

/// `openssl x509 -req -signkey` without extensions: X.509 version 1.
pub(crate) const VERSION_1: &str = include_str!("version-1.crt");

pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate of a machine at 127.0.0.1, and its key.
    pub(crate) fn issue(&self) -> (Certificate, KeyPair) {
        self.issue_with(|_| {})
    }

    /// The same for a certificate that is altered.
    pub(crate) fn issue_with(
        &self,
        alter: impl FnOnce(&mut CertificateParams),
    ) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        alter(&mut params);
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Files of a machine at 127.0.0.1, that trusts `trusted`.
    pub(crate) fn files(&self, folder: &Path, name: &str, trusted: &Authority) -> TlsFiles {
        self.files_with(folder, name, trusted, |_| {})
    }

    /// The same for a certificate that is altered.
    pub(crate) fn files_with(
        &self,
        folder: &Path,
        name: &str,
        trusted: &Authority,
        alter: impl FnOnce(&mut CertificateParams),
    ) -> TlsFiles {
        let (cert, key) = self.issue_with(alter);
        let write = |end: &str, pem: String| {
            let path = folder.join(format!("{name}.{end}"));
            fs::write(&path, pem).unwrap();
            path
        };
        TlsFiles {
            key: write("key", key.serialize_pem()),
            cert: write("crt", cert.pem()),
            ca: write("ca", trusted.0.pem()),
        }
    }
}
