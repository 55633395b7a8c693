//! A certificate authority for the servers and clients of a test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// An authority whose files lie in one folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// The files of a certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// The key, PKCS #8.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority; its certificate is `ca.crt` in the folder.
    pub fn new(folder: &Path) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("key");
        let authority = Authority {
            issuer: CertifiedIssuer::self_signed(params, key).expect("certificate"),
            folder: folder.to_owned(),
        };
        fs::write(authority.ca(), authority.issuer.pem()).expect("ca.crt");
        authority
    }

    /// The path of the authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate for a server at these addresses and names, and for a client of this common
    /// name: `NAME.crt` and `NAME.key`.
    pub fn issue(&self, name: &str, addresses: &[&str]) -> Identity {
        self.issue_with(name, addresses, |_| {})
    }

    /// The same for a certificate that is altered.
    pub fn issue_with(
        &self,
        name: &str,
        addresses: &[&str],
        alter: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let addresses: Vec<String> = addresses.iter().map(|&text| text.to_owned()).collect();
        let mut params = CertificateParams::new(addresses).expect("addresses");
        params.distinguished_name.push(DnType::CommonName, name);
        alter(&mut params);
        let key = KeyPair::generate().expect("key");
        let cert = params.signed_by(&key, &self.issuer).expect("certificate");
        let identity = Identity {
            cert: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        fs::write(&identity.cert, cert.pem()).expect("certificate");
        fs::write(&identity.key, key.serialize_pem()).expect("key");
        identity
    }
}
