//! Commands that run instead of the daemon.

mod check_config;
pub(crate) mod cleanup;
mod install;
pub(crate) mod lease;
mod pki;

pub(crate) use install::fuzz;

use crate::{cli::commands::NodeCommand, data_path};
use std::process::ExitCode;

/// Runs a command that has arguments of its own.
pub(crate) fn run(command: &NodeCommand) -> ExitCode {
    match command {
        NodeCommand::CheckConfig(options) => check_config::run(&options.file),
        NodeCommand::InstallCni(options) => install::cni(options),
        NodeCommand::InstallConf(options) => install::conf(options),
        NodeCommand::UninstallCni(options) => install::uninstall(options),
        NodeCommand::DataPath(options) => data_path::run(options),
        NodeCommand::Pki(options) => pki::run(options),
    }
}
