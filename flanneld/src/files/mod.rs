//! Files that the daemon keeps on the node.
pub(crate) mod node_state;
pub(crate) mod subnet_env;

/// Other users may read the file, and it survives a power loss.
const FILE: atomic_file::Options = atomic_file::Options::new(0o644)
    .keep_mode()
    .create_folder(0o755)
    .durable()
    .concurrent();
