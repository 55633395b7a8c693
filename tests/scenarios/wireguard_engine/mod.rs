//! The engine of WireGuard in user space on real devices and sockets: against itself, against
//! wireguard-go, and against the kernel's.

mod node;
mod others;
mod traffic;
