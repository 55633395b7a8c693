//! The daemon.
mod lease;
mod network_config;
mod subnet;
fn main() {}
