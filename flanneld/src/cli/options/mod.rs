//! The command line: upstream's flags with their defaults, and ours.
use crate::{cli::go_flags, files::node_state, subnet::embedded};
use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

const ABOUT: &str = "flanneld leases this node a subnet of the pod network and makes the pods of every other node \
reachable from it.";

const MORE: &str = "Every flag has a variable: -ip-masq is FLANNELD_IP_MASQ. It counts where the flag is not given.
Flags are written as -flag or --flag, with -flag=value or -flag value; a bool is -flag or -flag=false.

A network without Kubernetes or etcd:
  one node:     flanneld -listen 10.0.0.1:8888 -net-config-path net-conf.json -ip-masq
  the others:   flanneld -remote 10.0.0.1:8888 -ip-masq
Between machines add -remote-keyfile, -remote-certfile and -remote-cafile on both sides, or -insecure on a private link.

What it does can be seen with: ip -d link show flannel.1; ip route; bridge fdb show dev flannel.1; nft list ruleset;
cat /run/flannel/subnet.env; curl http://127.0.0.1:PORT/readyz (-healthz-port PORT).";

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Take everything of flanneld's off this node; stop flanneld first
    Cleanup,
    /// Print this help
    Help,
}

/// The options.
#[derive(Debug, Clone, Parser)]
#[command(name = "flanneld", about = ABOUT, after_help = MORE, override_usage = "flanneld [flags] [cleanup | help]")]
#[command(
    disable_help_subcommand = true,
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Options {
    /// What to do instead of running
    #[arg(value_enum)]
    pub action: Option<Action>,
    /// where leases come from
    #[command(flatten)]
    pub leases: LeaseOptions,
    /// how nodes reach each other
    #[command(flatten)]
    pub underlay: UnderlayOptions,
    /// packet filter
    #[command(flatten)]
    pub rules: RuleOptions,
    /// files, health, logs
    #[command(flatten)]
    pub node: NodeOptions,
    /// what other builds use
    #[command(flatten)]
    pub elsewhere: Elsewhere,
    /// the arguments that were given, by command line or environment, without secrets
    #[arg(skip)]
    pub given: Vec<String>,
}

/// Where leases come from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where leases come from")]
pub struct LeaseOptions {
    /// Keep the leases on this machine and serve them at HOST:PORT; the network is described by -net-config-path
    #[arg(long, default_value = "", value_name = "HOST:PORT")]
    pub listen: String,
    /// Use the leases that the flanneld at HOST:PORT keeps (its -listen)
    #[arg(long, default_value = "", value_name = "HOST:PORT")]
    pub remote: String,
    /// Private key for -listen and -remote (PEM); with the next two, both sides prove who they are
    #[arg(long, default_value = "", value_name = "FILE")]
    pub remote_keyfile: String,
    /// Certificate for -listen and -remote (PEM)
    #[arg(long, default_value = "", value_name = "FILE")]
    pub remote_certfile: String,
    /// Authority that signed the other side's certificate (PEM)
    #[arg(long, default_value = "", value_name = "FILE")]
    pub remote_cafile: String,
    /// Allow -listen and -remote off loopback without certificates: whoever reaches the port can take leases
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub insecure: bool,
    /// The file that -listen keeps leases in
    #[arg(long, default_value = embedded::DEFAULT_STORE, value_name = "FILE")]
    pub store: PathBuf,
    /// The network's configuration, for -listen
    #[arg(
        long,
        default_value = "/etc/kube-flannel/net-conf.json",
        value_name = "FILE"
    )]
    pub net_config_path: PathBuf,
    /// Minutes before its end that a lease is renewed, 1 to 1439
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    pub subnet_lease_renew_margin: i64,
}

/// How nodes reach each other.
#[derive(Debug, Clone, Args)]
#[command(
    next_help_heading = "How nodes reach each other (without any of these: by the default route)"
)]
pub struct UnderlayOptions {
    /// Interface, by name or address; repeatable, the first that matches is taken
    #[arg(long, value_name = "NAME|IP")]
    pub iface: Vec<String>,
    /// Pattern for an interface's addresses, then for its name; repeatable, tried after -iface
    #[arg(long, value_name = "REGEX")]
    pub iface_regex: Vec<String>,
    /// The interface that leads to IP; tried last
    #[arg(long, default_value = "", value_name = "IP")]
    pub iface_can_reach: String,
    /// IPv4 address told to other nodes, if it is not the interface's
    #[arg(long, default_value = "", value_name = "IP")]
    pub public_ip: String,
    /// IPv6 address told to other nodes, if it is not the interface's
    #[arg(long, default_value = "", value_name = "IP")]
    pub public_ipv6: String,
}

/// Packet filter.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Packet filter")]
pub struct RuleOptions {
    /// Masquerade what leaves the pod network
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub ip_masq: bool,
    /// Masquerade without fully random source ports
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub ip_masq_fully_random_disable: bool,
    /// Accept forwarded packets of the pod network
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub iptables_forward_rules: bool,
    /// Read for compatibility: rules are watched, and repaired at once
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub iptables_resync: i64,
}

/// Files, health, logs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "This node")]
pub struct NodeOptions {
    /// The file that tells the plugins what was leased
    #[arg(long, default_value = "/run/flannel/subnet.env", value_name = "FILE")]
    pub subnet_file: PathBuf,
    /// The file that remembers this node's MAC addresses beyond a reboot
    #[arg(long, default_value = node_state::DEFAULT_PATH, value_name = "FILE")]
    pub state_file: PathBuf,
    /// Address that /healthz and /readyz are served at
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub healthz_ip: String,
    /// Port that /healthz and /readyz are served at; 0 serves nothing
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub healthz_port: u16,
    /// Print the version and end
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub version: bool,
    /// Log level: 0 tells what changes, 1 more, 2 all
    #[arg(long, default_value_t = 0, value_name = "LEVEL")]
    pub v: i32,
}

/// Flags of upstream's that this build reads, so that a unit file or manifest stays valid, and has no use for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Read for compatibility, without use in this build")]
#[allow(missing_docs)]
pub struct Elsewhere {
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub kube_subnet_mgr: bool,
    #[arg(long, default_value = "", value_name = "URL")]
    pub kube_api_url: String,
    #[arg(long, default_value = "", value_name = "FILE")]
    pub kubeconfig_file: String,
    #[arg(
        long,
        default_value = "flannel.alpha.coreos.com",
        value_name = "PREFIX"
    )]
    pub kube_annotation_prefix: String,
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub set_node_network_unavailable: bool,
    #[arg(
        long,
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379",
        value_name = "URLS"
    )]
    pub etcd_endpoints: String,
    #[arg(long, default_value = "/coreos.com/network", value_name = "PREFIX")]
    pub etcd_prefix: String,
    #[arg(long, default_value = "", value_name = "FILE")]
    pub etcd_keyfile: String,
    #[arg(long, default_value = "", value_name = "FILE")]
    pub etcd_certfile: String,
    #[arg(long, default_value = "", value_name = "FILE")]
    pub etcd_cafile: String,
    #[arg(long, default_value = "", value_name = "NAME")]
    pub etcd_username: String,
    #[arg(long, default_value = "", value_name = "PASSWORD")]
    pub etcd_password: Secret,
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    pub ip_blackhole_route: bool,
    #[arg(long, default_value = "", value_name = "PATTERNS")]
    pub vmodule: String,
    #[arg(
        id = "log_backtrace_at",
        long = "log_backtrace_at",
        default_value = "",
        value_name = "FILE:LINE"
    )]
    pub log_backtrace_at: String,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() {
            "none"
        } else {
            "(not shown)"
        })
    }
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// clap's message with usage; or, with exit code 0, the help that was asked for.
    #[error("{0}")]
    Usage(clap::Error),
    /// A value is wrong.
    #[error("{0}")]
    Value(String),
}

impl Options {
    /// Reads a command line (without the program's name) and the environment. `bad` hears of variables that are left out.
    pub fn read(
        args: impl IntoIterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
        bad: impl FnMut(String),
    ) -> Result<Options, Error> {
        let command = command();
        let mut args = go_flags::rewrite(&command, args);
        let from_environment = go_flags::from_environment(&command, &args, variable, bad);
        args.extend(from_environment);
        let program = std::iter::once("flanneld".to_owned());
        let mut matches = command
            .try_get_matches_from(program.chain(args.clone()))
            .map_err(Error::Usage)?;
        let mut options = Options::from_arg_matches_mut(&mut matches).map_err(Error::Usage)?;
        options.given = args.into_iter().map(without_secret).collect();
        if !(1..=1439).contains(&options.leases.subnet_lease_renew_margin) {
            return Err(Error::Value(format!(
                "Invalid subnet-lease-renew-margin option, out of acceptable range: {} is not within 1 to 1439 (minutes)",
                options.leases.subnet_lease_renew_margin
            )));
        }
        Ok(options)
    }

    /// How long before its end a lease is renewed.
    pub fn renew_margin(&self) -> Duration {
        Duration::from_secs(self.leases.subnet_lease_renew_margin.unsigned_abs() * 60)
    }
}

/// The text of `help`.
pub fn help() -> String {
    command().render_help().to_string()
}

fn command() -> Command {
    Options::command().mut_args(tidy)
}

/// What all flags have in common: a bool may stand alone, values may begin with `-`, and a default that says nothing is
/// not shown.
fn tidy(arg: Arg) -> Arg {
    if arg.is_positional() || matches!(arg.get_action(), ArgAction::Help) {
        return arg;
    }
    let shown = arg
        .get_default_values()
        .iter()
        .any(|value| !value.is_empty() && value != "false");
    let arg = arg.hide_default_value(!shown);
    if arg.get_possible_values().is_empty() {
        return arg.allow_hyphen_values(true);
    }
    arg.hide_possible_values(true)
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
}

fn without_secret(arg: String) -> String {
    match arg.split_once('=') {
        Some((name, value)) if name.ends_with("password") && !value.is_empty() => {
            format!("{name}=(not shown)")
        }
        _ => arg,
    }
}

/// An address that may be empty; `what` is "public IP address". `of_family` picks the family that it must have.
pub fn address<T>(
    what: &str,
    text: &str,
    of_family: impl FnOnce(IpAddr) -> Option<T>,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = go_compat::cidr::parse_ip(text).ok().and_then(of_family);
    address
        .map(Some)
        .ok_or_else(|| format!("invalid {what}: {text}"))
}

/// The IPv4 address.
pub fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// The IPv6 address.
pub fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests;
