//! The `flannel` plugin: the whole chain, delegates, subnet.env and state files.

mod chain;
mod delegates;
mod node;
mod state;
mod subnet_env;
