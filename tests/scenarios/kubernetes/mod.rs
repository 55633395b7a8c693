//! The Kubernetes subnet manager, and the Go flanneld at the same API server.

mod api_server;
mod beside_go;
mod cluster;
mod fault_proxy;
mod go_flanneld;
mod own_node;
mod start;
mod watch;
