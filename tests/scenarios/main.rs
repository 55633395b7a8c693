//! Scenarios on the real kernel: each module is an area.

mod bandwidth;
mod bridge;
mod budget;
mod cloud;
mod cnitool;
mod del;
mod delegation;
mod deploy;
mod etcd;
mod fault_points;
mod firewall;
mod flannel_cni;
mod flanneld;
mod frame;
mod host_local;
mod hosts;
mod install;
mod install_cni;
mod kubernetes;
mod lease_store;
mod linux_net;
mod loopback;
mod moving_leases;
mod netem;
mod packet_filter;
mod pages;
mod parity;
mod portmap;
mod prune;
mod replay;
mod static_ipam;
mod tuning;
mod wireguard_engine;

fn main() {
    tests::service_manager::run_if_named_so();
    tests::sandbox::enter();
    tests::suite::main()
}
