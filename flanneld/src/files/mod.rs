//! Files that the daemon keeps on the node.
pub mod atomic_write;
pub mod node_state;
pub mod subnet_env;
