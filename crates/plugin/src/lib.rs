//! A plugin's frame: environment -> verb -> stdout; delegation; and the runtime's side of the same
//! protocol.
pub mod attachment;
pub mod call;
pub mod delegate;
pub mod environment;
pub mod execute;
pub mod frame;
pub mod hash;
mod identity;
pub mod search;
pub mod state;
mod version_gate;

pub use attachment::Attachment;
pub use call::Call;
pub use environment::{Environment, Verb};
pub use frame::{AddOutput, Plugin, main, warn};
