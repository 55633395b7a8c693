//! Hosts and pods in network namespaces, and the runner of the cases that use them.
//!
//! The process first moves into user, network, mount and pid namespaces of its own
//! ([`sandbox::enter`]): it needs no real root, cannot change the machine it runs on, and every
//! process that it starts dies with it.

pub mod binaries;
pub mod charon;
pub mod cni;
pub mod etcd;
pub mod fault_proxy;
pub mod go_flanneld;
pub mod host;
pub mod kernel;
pub mod kubernetes;
pub mod page;
pub mod peers;
pub mod pings;
pub mod pki;
pub mod process;
pub mod sandbox;
pub mod service_manager;
pub mod shell;
pub mod subnet_env;
pub mod suite;
pub mod trace;
pub mod transfer;
pub mod underlay;
pub mod usage;

pub use ::inventory;
pub use cni::{Cni, Outcome};
pub use etcd::Etcd;
pub use fault_proxy::{Ending, Fault, FaultProxy};
pub use go_flanneld::GoFlanneld;
pub use host::{Host, Pod};
pub use kubernetes::ApiServer;
pub use pings::Pings;
pub use process::Process;
pub use scenario_macro::{scenario, scenarios};
pub use suite::{Case, Registered, case};
pub use underlay::Underlay;
