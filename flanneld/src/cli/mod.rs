//! The command line: options, commands, Go's flag syntax, log.

pub(crate) mod commands;
mod go_flags;
mod log;
pub(crate) mod options;

use commands::NodeCommand;
use options::{Error, Options};
use std::{
    io::{self, Write},
    process::ExitCode,
};

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
        let command = command.map_err(|error| report(Error::Usage(error)))?;
        return Ok(Invocation::Command(command));
    }
    read_options(args).map(|options| Invocation::Flanneld(Box::new(options)))
}

fn read_options(args: Vec<String>) -> Result<Options, ExitCode> {
    let options = Options::read(args, |key| std::env::var_os(key)).map_err(report)?;
    if options.node.version {
        eprintln!("v{}", env!("CARGO_PKG_VERSION"));
        return Err(ExitCode::SUCCESS);
    }
    log::start(options.node.v);
    Ok(options)
}

pub(crate) fn print_help() -> ExitCode {
    print(&options::help())
}

/// Prints to stdout.
pub(crate) fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Help that was asked for goes to stdout and succeeds; an error goes to stderr.
fn report(error: Error) -> ExitCode {
    match error {
        Error::Usage(error) => match error.print() {
            Ok(()) if error.exit_code() == 0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        },
        error => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
