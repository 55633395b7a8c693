//! Real container runtimes from Debian's packages, on a machine of their own: containerd's CRI as kubelet drives it, and podman.

pub mod containerd;
pub mod image;
pub mod machine;
