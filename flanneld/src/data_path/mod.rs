//! The process that moves packets for backends whose packets the kernel does not move. It is this
//! executable under another command, in a session of its own, so that neither the end nor an
//! upgrade of the daemon cuts the traffic. The daemon talks to it over a Unix socket: it finds the
//! process of an earlier daemon there, and goes on with it.
//!
//! `process` is the other side, `supervisor` the daemon's. In Kubernetes the process would end with
//! the daemon's container: `keeper` has it in a container of its own.

mod build;
mod client;
mod engine;
mod fuzz;
mod keeper;
mod message;
mod process;
mod socket;
mod supervisor;
pub(crate) mod wireguard;

pub(crate) use engine::{Config, EngineConfig};
pub(crate) use fuzz::message as fuzz;
pub(crate) use process::run;
pub(crate) use socket::path;
pub(crate) use supervisor::{Failure, Supervisor};
