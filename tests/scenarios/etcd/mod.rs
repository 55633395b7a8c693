//! The etcd subnet manager, and the Go flanneld at the same etcd.

mod go_flanneld;
mod server;
