//! Container runtimes from Debian's packages on a machine of their own: containerd, driven over its
//! CRI as kubelet does, and podman.

pub mod containerd;
pub mod host_container;
pub mod image;
pub mod machine;
