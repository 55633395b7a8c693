//! What tests share: a certificate authority for servers and clients, addresses of servers, and the
//! start of child processes.

use super::TlsFiles;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

/// `openssl x509 -req -signkey` without extensions: X.509 version 1.
pub(crate) const VERSION_1: &str = include_str!("version-1.crt");

/// An address of 127.0.0.0/8 for one server of one process. Its ports stay free while the server
/// does not run: other servers have other addresses, and connections of tests begin at 127.0.0.1.
pub(crate) fn own_loopback_address() -> Ipv4Addr {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let number = 1 + LAST.fetch_add(1, Ordering::Relaxed);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 1 + high % 254, low, number)
}

/// Held while a child process has the descriptors of this one, until it executes its program.
static CHILD_BEGINS: Mutex<()> = Mutex::new(());

/// Starts a program; [`closed_everywhere`] waits until it runs.
pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _begins = CHILD_BEGINS.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Returns when no child process of another test has what this one has closed: the name of a
/// socket is free only then.
pub(crate) fn closed_everywhere() {
    drop(CHILD_BEGINS.lock().unwrap_or_else(PoisonError::into_inner));
}

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
