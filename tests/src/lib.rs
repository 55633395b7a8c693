//! Hosts and pods in network namespaces, and the runner of the cases that use them.
//!
//! The process first moves into user, network, mount and pid namespaces of its own
//! ([`sandbox::enter`]): it needs no real root, cannot change the machine it runs on, and every
//! process that it starts dies with it.

pub mod binaries;
pub mod cni;
pub mod host;
pub mod peers;
pub mod process;
pub mod sandbox;
pub mod shell;
pub mod suite;
pub mod underlay;

pub use ::inventory;
pub use cni::{Cni, Outcome};
pub use host::{Host, Pod};
pub use process::Process;
pub use scenario_macro::{scenario, scenarios};
pub use suite::{Case, Registered, case};
pub use underlay::Underlay;
