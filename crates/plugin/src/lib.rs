//! What all plugins share: the frame from environment and stdin to stdout, delegation, the owner of
//! what a plugin makes, and its state files. [`execute`], [`search`] and [`environment`] also serve
//! a runtime, which calls plugins by the same protocol.

pub mod attachment;
mod best_effort;
pub mod delegate;
pub mod environment;
pub mod execute;
mod frame;
pub mod fuzz;
pub mod hash;
mod identity;
mod invoke;
mod plugin;
pub mod search;
pub mod state;
mod stderr;
mod version_gate;

pub use attachment::Attachment;
pub use best_effort::best_effort;
pub use environment::{Environment, Verb};
pub use frame::main;
pub use plugin::{AddOutput, Call, Plugin, Registry};
pub use stderr::warn;
