//! A plugin's frame: environment -> verb -> stdout; delegation; and the runtime's side of the same protocol.
pub mod call;
pub mod delegate;
pub mod frame;
pub mod runtime;

pub use call::{Call, Verb};
pub use frame::{AddOutput, Plugin, main};
