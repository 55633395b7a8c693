//! The command line: upstream's flags with their defaults, and those of this flanneld.

mod groups;
mod values;

pub(crate) use groups::{CleanupOptions, NodeOptions};

use crate::cli::go_flags::{self, RefusedVariable};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser, ValueEnum};
use groups::{
    CompatibilityFlags, EtcdOptions, KubeOptions, LeaseOptions, RuleOptions, UnderlayOptions,
};
use std::{ffi::OsString, ops::RangeInclusive, time::Duration};

const ABOUT: &str = "flanneld leases this node a subnet of the pod network and makes the pods of every other node \
reachable from it.";

const USAGE: &str = "flanneld [flags] [cleanup | lease export [FILE] | lease import [FILE] | help]
       flanneld install-cni | install-conf | uninstall-cni | check-config [arguments]   (--help describes each)";

const MORE: &str = "Every flag has a variable: -ip-masq is FLANNELD_IP_MASQ. A flag on the command line overrides its variable.
Flags are written as -flag or --flag, with -flag=value or -flag value; a bool is -flag or -flag=false.

A network without Kubernetes or etcd:
  one node:     flanneld -listen 10.0.0.1:8888 -net-config-path net-conf.json -ip-masq
  the others:   flanneld -remote 10.0.0.1:8888 -ip-masq
Between machines add -remote-keyfile, -remote-certfile and -remote-cafile on both sides, or -insecure on a private link.

These commands show what it does: ip -d link show flannel.1; ip route; bridge fdb show dev flannel.1; nft list ruleset;
cat /run/flannel/subnet.env; curl http://127.0.0.1:PORT/readyz (-healthz-port PORT).";

/// Acceptable values of -subnet-lease-renew-margin, in minutes.
const RENEW_MARGIN: RangeInclusive<i64> = 1..=1439;

/// What to do instead of running the daemon. The doc comments are the text of the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Remove what flanneld made on this node, after a question; stop flanneld first
    Cleanup,
    /// `lease export [FILE]` writes every lease of the store that the flags name, as JSON;
    /// `lease import [FILE]` adds them to that store. Without FILE: stdout, stdin
    Lease,
    /// Print this help
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
    #[arg(value_enum)]
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
    /// A flag or value that clap refuses; with exit code 0, the help that was asked for.
    #[error(transparent)]
    Usage(clap::Error),
    /// A variable has a value that its flag does not take.
    #[error(transparent)]
    Variable(#[from] RefusedVariable),
    /// A word after an action that takes none.
    #[error("unexpected argument {0:?}: see flanneld help")]
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
    #[error("-iface-regex={pattern} is not a regular expression: {source}")]
    Pattern {
        pattern: String,
        source: regex::Error,
    },
    /// A flag's value is not an address, or one of the wrong family.
    #[error("invalid {what}: {text}")]
    Address { what: &'static str, text: String },
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
        if options.action != Some(Action::Help) && !options.node.version {
            args.extend(go_flags::from_environment(&command, &args, variable)?);
            options = parse(&command, &args)?;
        }
        options.given = args.into_iter().map(without_secret).collect();
        if let (action, Some(unexpected)) = (options.action, options.arguments.first())
            && action != Some(Action::Lease)
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
    command().render_help().to_string()
}

fn parse(command: &Command, args: &[String]) -> Result<Options, Error> {
    let program = std::iter::once("flanneld".to_owned());
    let matches = command
        .clone()
        .try_get_matches_from(program.chain(args.iter().cloned()));
    let mut matches = matches.map_err(Error::Usage)?;
    Options::from_arg_matches_mut(&mut matches).map_err(Error::Usage)
}

fn command() -> Command {
    Options::command().mut_args(as_go_flag)
}

/// What all flags have in common: a bool may stand alone, a value may begin with `-`, and the help
/// leaves out empty and false defaults.
fn as_go_flag(arg: Arg) -> Arg {
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

#[cfg(test)]
mod tests;
