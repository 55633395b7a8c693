//! The daemon, by folder: where leases come from, and what a node makes of them.

mod backend;
mod best_effort;
mod cli;
mod command;
mod counted;
mod daemon;
mod data_path;
mod failure_log;
mod files;
pub mod fuzz;
mod http_server;
mod model;
mod one_line;
mod open_files;
mod pki;
mod reconcile;
mod retry;
mod rules;
mod subnet;
mod underlay;
mod worker;

use cli::{Invocation, options::Action};
use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    let options = match cli::start() {
        Ok(Invocation::Flanneld(options)) => options,
        Ok(Invocation::Command(command)) => return command::run(&command),
        Err(code) => return code,
    };
    match options.action {
        Some(Action::Help) => cli::print_help(&options.arguments),
        Some(Action::Version) => cli::print_version(),
        Some(Action::Cleanup) => command::cleanup::run(&options),
        Some(Action::Lease) => command::lease::run(&options, &options.arguments),
        None => daemon::run(&options),
    }
}
