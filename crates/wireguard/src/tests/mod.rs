//! Devices against devices, in memory.

#[cfg(feature = "mock-clock")]
mod clock;
mod configuration;
mod node;
pub(crate) mod packets;
mod pair;
mod scale;
