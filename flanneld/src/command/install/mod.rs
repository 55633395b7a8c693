//! `install-cni`, `install-conf`, `uninstall-cni`: files of the node outside of flanneld's own.
//! Each file is written whole under a running node. A folder's record says what was written, so
//! that a later run tells it from files of another origin.

mod conf;
mod elf;
mod error;
mod folder;
mod fuzz;
mod plugins;
mod record;
mod uninstall;

pub(super) use conf::conf;
pub(crate) use fuzz::files as fuzz;
pub(super) use plugins::cni;
pub(super) use uninstall::uninstall;

use crate::cli;
use error::Error;
use std::process::ExitCode;

/// Prints one line for each file, or the error.
fn finish(result: Result<Vec<String>, Error>) -> ExitCode {
    match result {
        Ok(lines) => cli::print(
            &lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        ),
        Err(error) => cli::fail(&error, matches!(error, Error::UnknownPlugin { .. })),
    }
}

#[cfg(test)]
mod tests;
