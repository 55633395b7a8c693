//! The daemon's rooms: where leases come from, and what a node makes of them.
pub mod lease;
pub mod network_config;
mod rfc3339;
pub mod subnet;
