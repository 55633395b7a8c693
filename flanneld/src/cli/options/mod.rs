//! The command line: upstream's flags with their defaults, and those of this flanneld.

mod groups;
mod values;

pub(crate) use groups::{CleanupOptions, NodeOptions};

use crate::cli::{
    go_flags::{self, RefusedVariable},
    help, usage,
};
use clap::{
    Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser, ValueEnum, error::ErrorKind,
};
use groups::{
    CompatibilityFlags, EtcdOptions, KubeOptions, LeaseOptions, RuleOptions, UnderlayOptions,
};
use std::{ffi::OsString, ops::RangeInclusive, time::Duration};

const ABOUT: &str = "flanneld leases this node a subnet of the pod network and makes the pods of every other node \
reachable from it.";

const USAGE: &str = "flanneld [flags]
       flanneld COMMAND [arguments]";

/// Each command with what it does. `flanneld COMMAND -h` says more of those with own arguments.
const COMMANDS: [(&str, &str); 10] = [
    (
        "check-config FILE",
        "Check a network configuration and say what it means",
    ),
    (
        "pki init|issue|rotate",
        "Make certificates for -listen and -remote",
    ),
    (
        "lease export [FILE]",
        "Write every lease of the store that the flags name, as JSON",
    ),
    (
        "lease import [FILE]",
        "Add such leases to the store that the flags name",
    ),
    (
        "cleanup",
        "Remove what flanneld made on this node, after a question; stop flanneld first",
    ),
    (
        "install-cni",
        "Install the CNI plugins that come with flanneld",
    ),
    ("install-conf SRC DST", "Install a CNI configuration file"),
    ("uninstall-cni", "Undo install-cni and install-conf"),
    ("version", "Print the version"),
    ("help [COMMAND]", "Print this help, or that of a command"),
];

const MORE: &str = "\
Every flag has a variable: -ip-masq is FLANNELD_IP_MASQ. A flag overrides its
variable. A value follows its flag or `=`; a bool is -flag or -flag=false. Two
dashes mean the same as one.

A network without Kubernetes or etcd:
  one node:    flanneld -listen 10.0.0.1:8888 -net-config-path FILE -ip-masq
  the others:  flanneld -remote 10.0.0.1:8888 -ip-masq
Between machines add -remote-keyfile, -remote-certfile and -remote-cafile on
both sides (`flanneld pki` makes them), or -insecure on a private link.

What flanneld does shows in:
  ip -d link show flannel.1; ip route; bridge fdb show dev flannel.1
  nft list ruleset; cat /run/flannel/subnet.env
  curl 'http://127.0.0.1:PORT/readyz?verbose'   (-healthz-port PORT)

Exit codes: 0 success, 1 failure, 2 a flag or variable that cannot be used.";

/// Acceptable values of -subnet-lease-renew-margin, in minutes.
const RENEW_MARGIN: RangeInclusive<i64> = 1..=1439;

/// What to do instead of running the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    Cleanup,
    Lease,
    Version,
    Help,
}

/// The options, by group.
#[derive(Debug, Clone, Parser)]
#[command(name = "flanneld", about = ABOUT, after_help = MORE, override_usage = USAGE)]
#[command(
    disable_help_subcommand = true,
    disable_version_flag = true,
    args_override_self = true
)]
pub(crate) struct Options {
    /// What to do instead of running
    #[arg(value_enum, value_name = "ACTION", hide = true)]
    pub(crate) action: Option<Action>,
    /// What follows the action
    #[arg(hide = true)]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) kube: KubeOptions,
    #[command(flatten)]
    pub(crate) etcd: EtcdOptions,
    #[command(flatten)]
    pub(crate) leases: LeaseOptions,
    #[command(flatten)]
    pub(crate) underlay: UnderlayOptions,
    #[command(flatten)]
    pub(crate) rules: RuleOptions,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    #[command(flatten)]
    pub(crate) cleanup: CleanupOptions,
    #[command(flatten)]
    pub(crate) compatibility: CompatibilityFlags,
    /// the arguments of the command line and the environment, without secrets
    #[arg(skip)]
    pub(crate) given: Vec<String>,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not an error: the command line asks for the help.
    #[error("see `flanneld -h`")]
    Help,
    /// A flag, a value or an argument that is refused.
    #[error("{0}")]
    Usage(String),
    /// A variable has a value that its flag does not take.
    #[error(transparent)]
    Variable(#[from] RefusedVariable),
    /// A word after an action that takes none.
    #[error("unexpected argument {0:?}; see `flanneld -h`")]
    UnexpectedArgument(String),
    /// -subnet-lease-renew-margin is out of range.
    #[error(
        "Invalid subnet-lease-renew-margin option, out of acceptable range: {minutes} is not within \
         {} to {} (minutes)",
        RENEW_MARGIN.start(),
        RENEW_MARGIN.end()
    )]
    RenewMargin { minutes: i64 },
    /// An -iface-regex is not a regular expression.
    #[error(
        "-iface-regex={pattern} is not a regular expression: {}",
        last_line(source)
    )]
    Pattern {
        pattern: String,
        source: regex::Error,
    },
    /// A flag's value is not an address, or one of the wrong family.
    #[error("invalid {what}: {text}")]
    Address { what: &'static str, text: String },
}

/// The reason: the lines before it show the place in the pattern.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl Options {
    /// Reads a command line (without the program's name) and the environment.
    pub(crate) fn read(
        args: impl IntoIterator<Item = String>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Options, Error> {
        let command = command();
        let mut args = go_flags::rewrite(&command, args);
        // what is wrong on the command line, or the help that it asks for, comes first
        let mut options = parse(&command, &args)?;
        let asks = matches!(options.action, Some(Action::Help | Action::Version));
        if !asks && !options.node.version {
            args.extend(go_flags::from_environment(&command, &args, variable)?);
            options = parse(&command, &args)?;
        }
        options.given = args.into_iter().map(shown).collect();
        if let (action, Some(unexpected)) = (options.action, options.arguments.first())
            && !matches!(action, Some(Action::Lease | Action::Help))
        {
            return Err(Error::UnexpectedArgument(unexpected.clone()));
        }
        let minutes = options.leases.subnet_lease_renew_margin;
        if !RENEW_MARGIN.contains(&minutes) {
            return Err(Error::RenewMargin { minutes });
        }
        Ok(options)
    }

    /// How long before its end a lease is renewed.
    pub(crate) fn renew_margin(&self) -> Duration {
        Duration::from_secs(
            self.leases
                .subnet_lease_renew_margin
                .unsigned_abs()
                .saturating_mul(60),
        )
    }
}

/// The text of `help`.
pub(super) fn help() -> String {
    help::render(&command(), &COMMANDS)
}

/// True if the word is an action.
pub(super) fn is_action(word: &str) -> bool {
    Action::from_str(word, false).is_ok()
}

fn parse(command: &Command, args: &[String]) -> Result<Options, Error> {
    let program = std::iter::once("flanneld".to_owned());
    let matches = command
        .clone()
        .try_get_matches_from(program.chain(args.iter().cloned()));
    let read = matches.and_then(|mut matches| Options::from_arg_matches_mut(&mut matches));
    read.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Error::Help,
        _ => Error::Usage(usage::explain(&error, "flanneld -h")),
    })
}

fn command() -> Command {
    Options::command().mut_args(as_go_flag)
}

/// What all flags have in common: a bool may stand alone, and a value may begin with `-`.
fn as_go_flag(arg: Arg) -> Arg {
    if arg.is_positional() || matches!(arg.get_action(), ArgAction::Help) {
        return arg;
    }
    if arg.get_possible_values().is_empty() {
        return arg.allow_hyphen_values(true);
    }
    arg.num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
}

/// For the log: with one dash, and without secrets.
fn shown(arg: String) -> String {
    let arg = match arg.strip_prefix("--") {
        Some(flag) => format!("-{flag}"),
        None => arg,
    };
    match arg.split_once('=') {
        Some((name, value)) if name.ends_with("password") && !value.is_empty() => {
            format!("{name}=(not shown)")
        }
        _ => arg,
    }
}

#[cfg(test)]
mod tests;
