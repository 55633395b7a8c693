//! The embedded subnet manager: leases in one file on one machine, served to the others over HTTP.
//!
//! `flanneld -listen` opens a [`Store`], serves it by a [`Server`] and uses it itself as [`Local`];
//! `flanneld -remote` is a [`Client`]. The API is the one that flannel had up to v0.7 (`/v1/`),
//! with a streaming watch added.

mod archive;
mod client;
mod local;
mod server;
mod store;
mod wire;

pub(crate) use client::{Client, ClientOptions, RemoteError, fuzz_answer, fuzz_watch};
pub(crate) use local::Local;
pub(crate) use server::{Server, ServerError, ServerOptions, fuzz_api};
pub(crate) use store::{Store, StoreError, fuzz_request, fuzz_store, fuzz_store_entries};

/// Default path of the store.
pub(crate) const DEFAULT_STORE: &str = "/var/lib/flannel/leases.redb";

#[cfg(test)]
mod tests;
