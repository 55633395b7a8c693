//! Files that the daemon keeps on the node.

pub(crate) mod last_leases;
pub(crate) mod node_state;
pub(crate) mod subnet_env;

/// Other users may read the file, and it survives a power loss.
const FILE: atomic_file::Options = atomic_file::Options {
    keep_mode: true,
    folder_mode: Some(0o755),
    durable: true,
    concurrent: true,
    ..atomic_file::Options::new(0o644)
};

/// The same for a file with secrets: keys, or the network configuration, which may have a PSK.
const SECRET: atomic_file::Options = atomic_file::Options {
    mode: 0o600,
    keep_mode: false,
    ..FILE
};

/// The fuzz target of these files: what is read is written so that it is read again.
pub(crate) fn fuzz(bytes: &[u8]) {
    node_state::fuzz(bytes);
    last_leases::fuzz(bytes);
}
