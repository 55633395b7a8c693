//! The command line: options, Go's flag syntax, log.

mod go_flags;
mod log;
pub(crate) mod options;

use options::{Error, Options};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Reads the process's arguments and environment, and starts the log. The error is the exit code
/// after the help, the version or the reason for a refusal has been printed.
pub(crate) fn start() -> Result<Options, ExitCode> {
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned());
    // a variable that is not Unicode counts as not set
    let variable = |key: &str| std::env::var(key).ok();
    let options = Options::read(args, variable).map_err(report)?;
    if options.node.version {
        eprintln!("v{}", env!("CARGO_PKG_VERSION"));
        return Err(ExitCode::SUCCESS);
    }
    log::start(options.node.v);
    for ignored in &options.ignored {
        tracing::error!("{ignored}");
    }
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
