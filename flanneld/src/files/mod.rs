//! Files that the daemon keeps on the node.
pub mod node_state;
pub mod subnet_env;

/// Survives a power loss; readers of other users may read it.
const FILE: atomic_file::Options = atomic_file::Options::new(0o644)
    .keep_mode()
    .create_folder(0o755)
    .durable()
    .concurrent();
