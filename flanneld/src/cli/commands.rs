//! Commands with arguments of their own. Those that share the daemon's flags are
//! [`Action`](super::options::Action).

use super::{
    go_flags, help,
    usage::{self, Refused},
};
use clap::{ArgAction, Args, CommandFactory, Parser, ValueEnum, error::ErrorKind};
use std::path::{Path, PathBuf};

const PLUGINS_HELP: &str = "\
A plugin that is missing is installed, and one that an earlier run installed is
updated. A plugin of another origin is left as it is, unless -replace names it:
what is replaced stays beside it as NAME.before-flanneld. Each plugin is an
executable of its own and replaces the one of that name by a rename, so that
pods may start at any time, and so that a program that overwrites one plugin
does not change the others.

  flanneld install-cni
      flannel, and what it needs where that is missing
  flanneld install-cni -plugins=all -replace=all
      every plugin, whoever installed the present ones
  flanneld install-cni -bin-dir=/host/opt/cni/bin";

const CONF_HELP: &str = "\
The file has its name only when it is complete and on the disk, with the
permission bits of SRC. What install-conf did not write itself stays beside it
as DST.before-flanneld. A DST that ends in .conflist, .conf or .json is replaced
only by a JSON object. An executable named install-conf runs this command:
install-conf SRC DST.

  flanneld install-conf /etc/kube-flannel/cni-conf.json \\
      /etc/cni/net.d/10-flannel.conflist";

const CHECK_HELP: &str = "\
It fails at the first key that flanneld would refuse, and warns of keys that
have no effect. It needs neither root nor a running flanneld. Whether the
network is apart from a node's own addresses shows at that node's start only.

  flanneld check-config /etc/kube-flannel/net-conf.json";

const UNINSTALL_HELP: &str = "\
Files that were replaced come back, other files that the two commands wrote are
removed, and files that somebody changed since are left. Delete the node's pods
first: their removal needs the plugins. `flanneld cleanup` removes the network.";

const PKI_HELP: &str = "\
What each command makes:
  flanneld pki init
      make an authority, once, on one machine
  flanneld pki issue NAME [ADDRESS...]
      a certificate for the node NAME; the node that serves leases needs its
      addresses
  flanneld pki issue -operator [NAME]
      one that may change every lease
  flanneld pki rotate
      a new authority; the old one stays trusted
  flanneld pki rotate -finish
      the old one is trusted no longer

Each certificate has a folder of its own in the folder of the authority:
NAME/ca.crt, NAME/tls.crt and NAME/tls.key. Copy them to /etc/flannel/tls on the
machine, for -remote-cafile, -remote-certfile and -remote-keyfile. `issue`
renews one, too.";

/// A command and its arguments. The doc comments are the text of the help.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "flanneld", disable_help_subcommand = true)]
pub(crate) enum NodeCommand {
    /// Install the CNI plugins that come with flanneld
    #[command(after_help = PLUGINS_HELP)]
    InstallCni(InstallCni),
    /// Install a CNI configuration file
    #[command(after_help = CONF_HELP)]
    InstallConf(InstallConf),
    /// Check a network configuration (net-conf.json) and say what it means
    #[command(after_help = CHECK_HELP)]
    CheckConfig(CheckConfig),
    /// Undo install-cni and install-conf
    #[command(after_help = UNINSTALL_HELP)]
    UninstallCni(UninstallCni),
    /// Move packets for flanneld, which starts this itself
    #[command(hide = true)]
    DataPath(DataPath),
    /// Make certificates for -listen and -remote
    #[command(after_help = PKI_HELP)]
    Pki(Pki),
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "flanneld pki init|issue|rotate [flags]")]
pub(crate) struct Pki {
    /// init, issue or rotate
    #[arg(value_enum, value_name = "ACTION")]
    pub(crate) action: PkiAction,
    /// Of issue: the name, then a server's addresses and host names
    #[arg(value_name = "NAME|ADDRESS")]
    pub(crate) arguments: Vec<String>,
    /// The folder of the authority
    #[arg(long, default_value = "/etc/flannel/pki", value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// Days that a certificate lives
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub(crate) days: u16,
    /// The certificate is an operator's
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    pub(crate) operator: bool,
    /// The second step of rotate
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    pub(crate) finish: bool,
}

/// A command of `pki`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PkiAction {
    Init,
    Issue,
    Rotate,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    override_usage = "flanneld data-path -socket FILE [-status]\n       flanneld data-path -keep FOLDER"
)]
pub(crate) struct DataPath {
    /// The socket by which the daemon talks to it
    #[arg(long, value_name = "FILE")]
    pub(crate) socket: Option<PathBuf>,
    /// Take over the processes with sockets in this folder, so that they stay when the container of
    /// the daemon is replaced
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
    /// Started by -keep
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, hide = true)]
    #[arg(require_equals = true, default_missing_value = "true")]
    pub(crate) kept: bool,
    /// Print the status of the process that runs, as JSON
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    pub(crate) status: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "flanneld install-cni [flags]")]
pub(crate) struct InstallCni {
    /// The folder in which the container runtime looks for plugins
    #[arg(long, default_value = "/opt/cni/bin", value_name = "FOLDER")]
    pub(crate) bin_dir: PathBuf,
    /// The plugins to install, or `all`
    #[arg(
        long,
        default_value = "flannel,bridge,host-local,portmap,loopback",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub(crate) plugins: Vec<String>,
    /// Those of them that replace a plugin of another origin, or `all`, or `none`
    #[arg(
        long,
        default_value = "flannel",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub(crate) replace: Vec<String>,
    /// The executable that is all plugins [default: cni-suite in flanneld's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) source: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "flanneld install-conf SRC DST")]
pub(crate) struct InstallConf {
    /// The file to copy
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// Where the runtime reads it
    #[arg(value_name = "DST")]
    pub(crate) destination: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "flanneld check-config FILE")]
pub(crate) struct CheckConfig {
    /// The file; /dev/stdin is the standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "flanneld uninstall-cni [flags]")]
pub(crate) struct UninstallCni {
    /// The -bin-dir of install-cni
    #[arg(long, default_value = "/opt/cni/bin", value_name = "FOLDER")]
    pub(crate) bin_dir: PathBuf,
    /// The folder of install-conf's DST
    #[arg(long, default_value = "/etc/cni/net.d", value_name = "FOLDER")]
    pub(crate) conf_dir: PathBuf,
}

impl NodeCommand {
    /// The command that the executable's name or the first argument selects; None if neither does.
    pub(crate) fn read(called: &str, args: &[String]) -> Option<Result<NodeCommand, Refused>> {
        let commands = NodeCommand::command();
        let called = Path::new(called).file_name()?.to_str()?;
        let (command, args) = match commands.find_subcommand(called) {
            Some(command) => (command, args),
            None => {
                let (name, args) = args.split_first()?;
                (commands.find_subcommand(name)?, args)
            }
        };
        let args = go_flags::rewrite(command, args.iter().cloned());
        let name = ["flanneld", command.get_name()].map(str::to_owned);
        let read = NodeCommand::try_parse_from(name.into_iter().chain(args));
        Some(read.map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp => Refused::Help(help::render(command, &[])),
            _ => {
                let help = format!("flanneld {} -h", command.get_name());
                Refused::Usage(usage::explain(&error, &help))
            }
        }))
    }

    /// The help of a command.
    pub(super) fn help(name: &str) -> Option<String> {
        let commands = NodeCommand::command();
        let command = commands.find_subcommand(name)?;
        Some(help::render(command, &[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(called: &str, args: &[&str]) -> Option<Result<NodeCommand, Refused>> {
        let args: Vec<_> = args.iter().map(|arg| arg.to_string()).collect();
        NodeCommand::read(called, &args)
    }

    #[test]
    fn name_of_the_executable_or_first_argument_selects() {
        let expected = NodeCommand::InstallConf(InstallConf {
            source: "/a".into(),
            destination: "/b".into(),
        });
        for (called, args) in [
            ("/opt/bin/install-conf", ["/a", "/b"].as_slice()),
            ("install-conf", &["/a", "/b"]),
            ("/opt/bin/flanneld", &["install-conf", "/a", "/b"]),
        ] {
            assert_eq!(read(called, args).unwrap().unwrap(), expected, "{called}");
        }
        assert!(read("flanneld", &["-ip-masq"]).is_none());
        assert!(read("flanneld", &["cleanup"]).is_none());
        assert!(read("flanneld", &[]).is_none());
        assert!(read("", &["install-conf", "/a", "/b"]).is_none());
    }

    #[test]
    fn flags_have_gos_syntax() {
        let args = ["install-cni", "-plugins", "flannel,bridge", "--replace=all"];
        match read("flanneld", &args).unwrap().unwrap() {
            NodeCommand::InstallCni(options) => {
                assert_eq!(options.plugins, ["flannel", "bridge"]);
                assert_eq!(options.replace, ["all"]);
                assert_eq!(options.bin_dir, Path::new("/opt/cni/bin"));
                assert_eq!(options.source, None);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wrong_arguments_are_errors_and_help_is_not() {
        for bad in [
            ["install-conf"].as_slice(),
            &["install-conf", "/a"],
            &["install-conf", "/a", "/b", "/c"],
            &["install-cni", "-no-such-flag"],
            &["install-cni", "bridge"],
            &["uninstall-cni", "-bin-dir"],
            &["check-config"],
            &["check-config", "/a", "/b"],
        ] {
            match read("flanneld", bad).unwrap().unwrap_err() {
                Refused::Usage(text) => {
                    let advice = format!("; see `flanneld {} -h`", bad[0]);
                    assert!(text.ends_with(&advice), "{text}");
                    assert!(!text.contains("--"), "{text}");
                }
                Refused::Help(text) => panic!("{bad:?}: {text}"),
            }
        }
        for command in NodeCommand::command().get_subcommands() {
            let command = command.get_name();
            for flag in ["-h", "-help", "--help"] {
                let Refused::Help(help) = read("flanneld", &[command, flag]).unwrap().unwrap_err()
                else {
                    panic!("{command} {flag}");
                };
                let usage = format!("Usage: flanneld {command}");
                assert!(help.contains(&usage), "{help}");
                assert_eq!(NodeCommand::help(command), Some(help));
            }
        }
    }

    #[test]
    fn help_fits_a_terminal_and_has_one_dash() {
        for command in NodeCommand::command().get_subcommands() {
            let help = NodeCommand::help(command.get_name()).unwrap();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{line}");
                assert!(!line.contains("--"), "{line}");
            }
        }
    }
}
