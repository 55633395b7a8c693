//! The embedded subnet manager: leases in one file on one machine, served to the others over HTTP.
//!
//! `flanneld --listen` opens a [`Store`], serves it by a [`Server`] and uses it itself as [`Local`]; `flanneld --remote`
//! is a [`Client`]. The API is the one flannel had up to v0.7 (`/v1/`), with a streaming watch added.
mod client;
mod keep;
mod local;
mod server;
mod store;
mod tls;
mod wire;

pub use client::{Client, ClientOptions};
pub use local::Local;
pub use server::{Server, ServerOptions};
pub use store::Store;
pub use tls::TlsFiles;

/// Where the store is unless told otherwise.
pub const DEFAULT_STORE: &str = "/var/lib/flannel/leases.redb";

/// How long after it was given or renewed a lease is renewed: `margin` before its end.
fn renew_after(ttl: std::time::Duration, margin: std::time::Duration) -> std::time::Duration {
    if margin < ttl { ttl - margin } else { ttl / 2 }
}

#[cfg(test)]
mod tests;
