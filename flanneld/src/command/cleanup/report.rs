//! What `cleanup` removed, left and failed to remove, line by line.

use crate::cli;
use std::{fmt, process::ExitCode};

const REMOVED: &str = "removed";
const LEFT: &str = "left";
const FAILED: &str = "FAILED";

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

    /// A line in this report's own form. False: it is another line.
    pub(super) fn line(&mut self, line: &str) -> bool {
        let groups = [
            (REMOVED, &mut self.removed),
            (LEFT, &mut self.left),
            (FAILED, &mut self.failed),
        ];
        for (word, lines) in groups {
            let rest = line
                .strip_prefix(word)
                .and_then(|rest| rest.strip_prefix(' '));
            if let Some(rest) = rest {
                lines.push(rest.to_owned());
                return true;
            }
        }
        false
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
            (REMOVED, &self.removed),
            (LEFT, &self.left),
            (FAILED, &self.failed),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_another_program_are_sorted_by_their_first_word() {
        let mut report = Report::default();
        for line in ["FAILED c: d", "left a: b", "removed x"] {
            assert!(report.line(line), "{line}");
        }
        for line in ["", "nothing is left", "leftover"] {
            assert!(!report.line(line), "{line}");
        }
        assert_eq!(report.to_string(), "removed x\nleft a: b\nFAILED c: d\n");
    }
}
