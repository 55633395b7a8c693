//! The flags by group. The doc comments are the text of the help.

use crate::{files::node_state, model::tx_checksum::TxChecksumOffload, subnet::embedded};
use clap::{ArgAction, Args};
use std::{fmt, path::PathBuf};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Leases without Kubernetes and etcd")]
pub(crate) struct LeaseOptions {
    /// Keep the leases on this machine and serve them at HOST:PORT; the network is described by
    /// -net-config-path
    #[arg(long, default_value = "", value_name = "HOST:PORT")]
    pub(crate) listen: String,
    /// Use the leases that the flanneld at HOST:PORT keeps (its -listen)
    #[arg(long, default_value = "", value_name = "HOST:PORT")]
    pub(crate) remote: String,
    /// Private key for -listen and -remote (PEM); with the next two, both sides prove who they are
    #[arg(long, default_value = "", value_name = "FILE")]
    pub(crate) remote_keyfile: String,
    /// Certificate for -listen and -remote (PEM)
    #[arg(long, default_value = "", value_name = "FILE")]
    pub(crate) remote_certfile: String,
    /// Authority that signed the other side's certificate (PEM)
    #[arg(long, default_value = "", value_name = "FILE")]
    pub(crate) remote_cafile: String,
    /// Allow -listen and -remote off loopback without certificates: anyone who reaches the port can
    /// take leases
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) insecure: bool,
    /// The file that -listen keeps leases in
    #[arg(long, default_value = embedded::DEFAULT_STORE, value_name = "FILE")]
    pub(crate) store: PathBuf,
    /// The network's configuration, for -listen and -kube-subnet-mgr
    #[arg(
        long,
        default_value = "/etc/kube-flannel/net-conf.json",
        value_name = "FILE"
    )]
    pub(crate) net_config_path: PathBuf,
    /// Minutes before its end that a lease is renewed, 1 to 1439
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    pub(crate) subnet_lease_renew_margin: i64,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How nodes reach each other (by default: over the default route)")]
pub(crate) struct UnderlayOptions {
    /// Interface, by name or address; repeatable, the first that matches is taken
    #[arg(long, value_name = "NAME|IP")]
    pub(crate) iface: Vec<String>,
    /// Pattern for an interface's addresses, then for its name; repeatable, tried after -iface
    #[arg(long, value_name = "REGEX")]
    pub(crate) iface_regex: Vec<String>,
    /// The interface that leads to IP; tried last
    #[arg(long, default_value = "", value_name = "IP")]
    pub(crate) iface_can_reach: String,
    /// IPv4 address that other nodes use, if it is not the interface's
    #[arg(long, default_value = "", value_name = "IP")]
    pub(crate) public_ip: String,
    /// IPv6 address that other nodes use, if it is not the interface's
    #[arg(long, default_value = "", value_name = "IP")]
    pub(crate) public_ipv6: String,
    /// Whether vxlan devices leave checksums to the interface; auto: not where the kernel (before
    /// 5.7) or the driver (vmxnet3) is known to send wrong ones
    #[arg(
        long,
        default_value_t = TxChecksumOffload::Auto,
        value_name = "auto|on|off"
    )]
    pub(crate) tx_checksum_offload: TxChecksumOffload,
}

#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "flanneld cleanup")]
pub(crate) struct CleanupOptions {
    /// Do not ask first; without a terminal, cleanup never asks
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) yes: bool,
    /// Remove the -state-file, too: peers see new MAC addresses when flanneld runs here again
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Packet filter")]
pub(crate) struct RuleOptions {
    /// Masquerade what leaves the pod network
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) ip_masq: bool,
    /// Masquerade without fully random source ports
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) ip_masq_fully_random_disable: bool,
    /// Accept forwarded packets of the pod network
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub(crate) iptables_forward_rules: bool,
    /// Seconds between two looks at the rules in legacy iptables, of whose changes the kernel says
    /// nothing; other rules are watched, and restored at once
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub(crate) iptables_resync: i64,
    /// Drop packets to pods of this node that do not exist, by a blackhole route to its subnet,
    /// where the default route would take them out of the node
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) ip_blackhole_route: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "This node")]
pub(crate) struct NodeOptions {
    /// The file from which the plugins read this node's subnet
    #[arg(long, default_value = "/run/flannel/subnet.env", value_name = "FILE")]
    pub(crate) subnet_file: PathBuf,
    /// The file that keeps this node's MAC addresses across reboots
    #[arg(long, default_value = node_state::DEFAULT_PATH, value_name = "FILE")]
    pub(crate) state_file: PathBuf,
    /// Address that /healthz and /readyz are served at
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub(crate) healthz_ip: String,
    /// Port that /healthz and /readyz are served at; 0 serves nothing
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub(crate) healthz_port: u16,
    /// Print the version and exit
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) version: bool,
    /// Log level: 0 logs changes, 1 adds debug, 2 adds trace
    #[arg(long, default_value_t = 0, value_name = "LEVEL")]
    pub(crate) v: i32,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Leases from Kubernetes")]
pub(crate) struct KubeOptions {
    /// Take this node's subnet from its Node object (spec.podCIDRs), and publish how it is reached
    /// as annotations; the network is described by -net-config-path
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub(crate) kube_subnet_mgr: bool,
    /// API server, in place of the kubeconfig's
    #[arg(long, default_value = "", value_name = "URL")]
    pub(crate) kube_api_url: String,
    /// Kubeconfig; without it and -kube-api-url, the pod's service account
    #[arg(long, default_value = "", value_name = "FILE")]
    pub(crate) kubeconfig_file: String,
    /// Prefix of the annotations, the same on every node
    #[arg(
        long,
        default_value = "flannel.alpha.coreos.com",
        value_name = "PREFIX"
    )]
    pub(crate) kube_annotation_prefix: String,
    /// Set the node's condition NetworkUnavailable to False while its network is in place
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub(crate) set_node_network_unavailable: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Leases from etcd (without -kube-subnet-mgr, -listen and -remote)")]
pub(crate) struct EtcdOptions {
    /// Addresses of the etcd members, separated by commas
    #[arg(
        long,
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379",
        value_name = "URLS"
    )]
    pub(crate) etcd_endpoints: String,
    /// Prefix of the keys: the network is described by PREFIX/config, leases are under
    /// PREFIX/subnets
    #[arg(long, default_value = "/coreos.com/network", value_name = "PREFIX")]
    pub(crate) etcd_prefix: String,
    /// Private key that this node shows etcd (PEM)
    #[arg(long, default_value = "", value_name = "FILE")]
    pub(crate) etcd_keyfile: String,
    /// Certificate that this node shows etcd (PEM)
    #[arg(long, default_value = "", value_name = "FILE")]
    pub(crate) etcd_certfile: String,
    /// Authority that signed the certificates of etcd (PEM)
    #[arg(long, default_value = "", value_name = "FILE")]
    pub(crate) etcd_cafile: String,
    /// User for etcd
    #[arg(long, default_value = "", value_name = "NAME")]
    pub(crate) etcd_username: String,
    /// The user's password; FLANNELD_ETCD_PASSWORD keeps it out of the list of processes
    #[arg(long, default_value = "", value_name = "PASSWORD")]
    pub(crate) etcd_password: Secret,
}

/// Upstream's flags that this build reads and does not use: an existing unit file or manifest stays
/// valid.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Flags of Go flanneld, accepted without effect")]
#[allow(dead_code, reason = "these flags are accepted and not used")]
pub(crate) struct CompatibilityFlags {
    /// -v sets the level of the whole log
    #[arg(long, default_value = "", value_name = "PATTERNS")]
    pub(crate) vmodule: String,
    /// The log has no stack traces
    #[arg(
        id = "log_backtrace_at",
        long = "log_backtrace_at",
        default_value = "",
        value_name = "FILE:LINE"
    )]
    pub(crate) log_backtrace_at: String,
}

/// A value that neither the log nor `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The value itself, for the one place that sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "none"
        } else {
            "(not shown)"
        })
    }
}
