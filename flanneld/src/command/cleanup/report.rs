//! What `cleanup` removed, left and failed to remove, line by line.

use crate::cli;
use std::{fmt, process::ExitCode};

#[derive(Debug, Default)]
pub(super) struct Report {
    removed: Vec<String>,
    left: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    pub(super) fn removed(&mut self, name: String) {
        self.removed.push(name);
    }

    /// The result of removing the named thing.
    pub(super) fn removal(&mut self, name: String, result: Result<(), impl fmt::Display>) {
        match result {
            Ok(()) => self.removed(name),
            Err(error) => self.failure(format!("{name}: {error}")),
        }
    }

    /// The named thing is not removed, for a reason that is not an error.
    pub(super) fn left(&mut self, name: impl fmt::Display, reason: impl fmt::Display) {
        self.left.push(format!("{name}: {reason}"));
    }

    pub(super) fn failure(&mut self, error: impl fmt::Display) {
        self.failed.push(error.to_string());
    }

    /// Prints to stdout; success if nothing failed.
    pub(super) fn print(&self) -> ExitCode {
        let printed = cli::print(&self.to_string());
        if self.failed.is_empty() {
            printed
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Prints to stderr why nothing was done.
pub(super) fn refusal(reason: impl fmt::Display) -> ExitCode {
    cli::fail(reason, false)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = [
            ("removed", &self.removed),
            ("left", &self.left),
            ("FAILED", &self.failed),
        ];
        if groups.iter().all(|(_, lines)| lines.is_empty()) {
            return writeln!(f, "this node has nothing of flanneld");
        }
        for (word, lines) in groups {
            for line in lines {
                writeln!(f, "{word} {line}")?;
            }
        }
        Ok(())
    }
}
