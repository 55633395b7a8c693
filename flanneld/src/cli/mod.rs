//! The command line: options, commands, Go's flag syntax, help, log.

pub(crate) mod commands;
mod fuzz;
mod go_flags;
mod help;
mod log;
pub(crate) mod options;
mod usage;

pub(crate) use fuzz::command_line as fuzz;

use commands::NodeCommand;
use options::{Error, Options};
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};
use usage::Refused;

/// Exit code of a command line, or of a variable, that cannot be used: it is the same at the next
/// start. Every other failure has 1.
const USAGE: u8 = 2;

/// What the command line asks for.
pub(crate) enum Invocation {
    /// The daemon, or an action that shares its flags.
    Flanneld(Box<Options>),
    /// A command with arguments of its own.
    Command(NodeCommand),
}

/// Reads the process's arguments and environment, and starts the log. The error is the exit code
/// after the help, the version or the reason for a refusal has been printed.
pub(crate) fn start() -> Result<Invocation, ExitCode> {
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let called = args.next().unwrap_or_default();
    let args: Vec<_> = args.collect();
    if let Some(command) = NodeCommand::read(&called, &args) {
        return match command {
            Ok(command) => Ok(Invocation::Command(command)),
            Err(Refused::Help(text)) => Err(print(&text)),
            Err(Refused::Usage(reason)) => Err(refuse(reason)),
        };
    }
    read_options(args).map(|options| Invocation::Flanneld(Box::new(options)))
}

fn read_options(args: Vec<String>) -> Result<Options, ExitCode> {
    let options = Options::read(args, |key| std::env::var_os(key));
    let options = options.map_err(|error| match error {
        Error::Help => print(&options::help()),
        error => refuse(error),
    })?;
    if options.node.version {
        // where upstream prints it
        eprintln!("{}", version());
        return Err(ExitCode::SUCCESS);
    }
    log::start(options.node.v);
    Ok(options)
}

/// The log of a command that runs until it is ended.
pub(crate) fn start_log() {
    log::start(0);
}

/// `flanneld help [COMMAND]`.
pub(crate) fn print_help(arguments: &[String]) -> ExitCode {
    match arguments {
        [] => print(&options::help()),
        [name, ..] => match NodeCommand::help(name) {
            Some(text) => print(&text),
            None if options::is_action(name) => print(&options::help()),
            None => refuse(format!("there is no command {name:?}; see `flanneld -h`")),
        },
    }
}

pub(crate) fn print_version() -> ExitCode {
    print(&format!("{}\n", version()))
}

fn version() -> String {
    format!("v{}", env!("CARGO_PKG_VERSION"))
}

/// Prints to stdout.
pub(crate) fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints why a command fails.
pub(crate) fn fail(reason: impl Display, is_usage: bool) -> ExitCode {
    eprintln!("{reason}");
    failure(is_usage)
}

/// The exit code of a failure.
pub(crate) fn failure(is_usage: bool) -> ExitCode {
    match is_usage {
        true => ExitCode::from(USAGE),
        false => ExitCode::FAILURE,
    }
}

fn refuse(reason: impl Display) -> ExitCode {
    fail(reason, true)
}
