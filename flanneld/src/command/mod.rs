//! Commands that run instead of the daemon.

pub(crate) mod cleanup;
mod install;
pub(crate) mod lease;
mod pki;

use crate::cli::commands::NodeCommand;
use std::process::ExitCode;

/// Runs a command that has arguments of its own.
pub(crate) fn run(command: &NodeCommand) -> ExitCode {
    match command {
        NodeCommand::InstallCni(options) => install::cni(options),
        NodeCommand::InstallConf(options) => install::conf(options),
        NodeCommand::UninstallCni(options) => install::uninstall(options),
        NodeCommand::Pki(options) => pki::run(options),
    }
}
