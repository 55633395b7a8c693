//! The folder of an authority, as `flanneld pki` keeps it:
//!
//! ```text
//! ca.crt          the authority; during a rotation the new one, then the old one
//! ca.key          the key of the authority that signs
//! NAME/ca.crt     what node NAME needs: a copy of ca.crt,
//! NAME/tls.crt    its certificate
//! NAME/tls.key    and its private key
//! ```

use super::error::Error;
use crate::pki::{Authority, Issued};
use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

const SECRET: atomic_file::Options = atomic_file::Options {
    durable: true,
    ..atomic_file::Options::new(0o600)
};
const PUBLIC: atomic_file::Options = atomic_file::Options {
    durable: true,
    ..atomic_file::Options::new(0o644)
};

/// The folder that `-dir` names.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    pub(super) fn ca_certificate(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    fn ca_key(&self) -> PathBuf {
        self.0.join("ca.key")
    }

    pub(super) fn has_authority(&self) -> bool {
        self.ca_key().exists() || self.ca_certificate().exists()
    }

    /// Writes a new authority; `old` are the certificates that stay trusted.
    pub(super) fn write_authority(&self, authority: &Issued, old: &str) -> Result<(), Error> {
        make_private(self.0)?;
        let certificates = format!("{}{old}", authority.certificate);
        // the key first: with the old key and two certificates no rotation could go on
        write(SECRET, &self.ca_key(), &authority.key)?;
        self.write_certificates(&certificates)
    }

    /// Writes `ca.crt`, and its copy for each node.
    pub(super) fn write_certificates(&self, certificates: &str) -> Result<(), Error> {
        write(PUBLIC, &self.ca_certificate(), certificates)?;
        for name in self.names()? {
            let copy = self.0.join(name).join("ca.crt");
            write(PUBLIC, &copy, certificates)?;
        }
        Ok(())
    }

    /// The authorities, the one that signs first.
    pub(super) fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let path = self.ca_certificate();
        if !self.has_authority() {
            return Err(Error::NoAuthority(self.0.to_owned()));
        }
        let pem = read(&path)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(Error::NoCertificate(path)),
        }
    }

    /// The authority that signs.
    pub(super) fn authority(&self) -> Result<Authority, Error> {
        let certificates = self.authorities()?;
        let path = || Error::NoCertificate(self.ca_certificate());
        let signing = certificates.first().ok_or_else(path)?;
        Ok(Authority::load(signing, &read(&self.ca_key())?)?)
    }

    /// `ca.crt` as it is.
    pub(super) fn certificates(&self) -> Result<String, Error> {
        read(&self.ca_certificate())
    }

    /// Writes what a holder needs, and returns its folder.
    pub(super) fn write_issued(&self, name: &str, issued: &Issued) -> Result<PathBuf, Error> {
        let folder = self.0.join(name);
        make_private(&folder)?;
        write(PUBLIC, &folder.join("ca.crt"), &self.certificates()?)?;
        write(SECRET, &folder.join("tls.key"), &issued.key)?;
        write(PUBLIC, &folder.join("tls.crt"), &issued.certificate)?;
        Ok(folder)
    }

    /// The holders of certificates, in order.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(self.0).map_err(failed(self.0))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed(self.0))?;
            if entry.path().join("tls.crt").exists()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A holder's certificate.
    pub(super) fn issued(&self, name: &str) -> Result<CertificateDer<'static>, Error> {
        let path = self.0.join(name).join("tls.crt");
        let pem = read(&path)?;
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::NoCertificate(path))
    }
}

/// A folder that only its owner can enter, also if it was there with other permission bits.
fn make_private(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .map_err(failed(path))
}

fn write(options: atomic_file::Options, path: &Path, content: &str) -> Result<(), Error> {
    options
        .write(path, content.as_bytes())
        .map_err(failed(path))
}

fn read(path: &Path) -> Result<String, Error> {
    const LIMIT: u64 = 1 << 20;
    let size = fs::metadata(path).map_err(failed(path))?;
    if !size.is_file() || size.len() > LIMIT {
        let error = io::Error::new(ErrorKind::InvalidData, "it is no file of PEM");
        return Err(failed(path)(error));
    }
    fs::read_to_string(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    |source| Error::File { path, source }
}
