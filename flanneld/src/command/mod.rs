//! Commands that run instead of the daemon.
pub mod cleanup;
