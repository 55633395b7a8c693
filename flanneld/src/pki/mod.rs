//! Certificates of the lease API: what one says, whom it names, and why a handshake fails.

mod authority;
mod certificate;
mod fuzz;
mod identity;
mod words;

pub(crate) use authority::{Authority, Holder, IssueError, Issued};
pub(crate) use certificate::{Certificate, Fault, Use, date};
pub(crate) use fuzz::certificate as fuzz;
pub(crate) use identity::Identity;
pub(crate) use words::{ClientFiles, Peer, client_refused, is_key_mismatch, server_refused};
