//! Everything that needs a kernel: each module is one area and lists its cases.

mod bandwidth;
mod bridge;
mod budget;
mod cnitool;
mod delegation;
mod fault_points;
mod firewall;
mod flannel_cni;
mod flanneld;
mod frame;
mod host_local;
mod hosts;
mod install;
mod lease_store;
mod linux_net;
mod loopback;
mod packet_filter;
mod parity;
mod portmap;
mod replay;
mod static_ipam;
mod tuning;

fn main() {
    tests::sandbox::enter();
    let mut cases = Vec::new();
    cases.extend(cnitool::cases());
    cases.extend(delegation::cases());
    cases.extend(flannel_cni::cases());
    cases.extend(frame::cases());
    cases.extend(lease_store::cases());
    cases.extend(loopback::cases());
    cases.extend(replay::cases());
    cases.extend(static_ipam::cases());
    tests::suite::main(cases)
}
