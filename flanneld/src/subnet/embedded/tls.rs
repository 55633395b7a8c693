//! Mutual TLS: both sides show a certificate of the same authority.
use std::path::PathBuf;

/// `--remote-keyfile`, `--remote-certfile`, `--remote-cafile`: PEM files, for server and client alike.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsFiles {
    /// Our private key.
    pub key: PathBuf,
    /// Our certificate, intermediates after it.
    pub cert: PathBuf,
    /// The authorities that the other side's certificate must come from.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// From the three flags: all of them, or none.
    pub fn from_flags(_key: &str, _cert: &str, _ca: &str) -> Result<Option<TlsFiles>, String> {
        todo!()
    }
}
