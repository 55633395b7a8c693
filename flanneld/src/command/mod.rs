//! Commands that run instead of the daemon.

pub(crate) mod cleanup;
pub(crate) mod lease;
