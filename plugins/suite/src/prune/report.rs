//! What was removed, left and not removed, line by line.

use std::{collections::BTreeMap, fmt::Display, process::ExitCode};

#[derive(Debug, Default)]
pub(super) struct Report {
    dry_run: bool,
    removed: Vec<String>,
    /// How many things of one kind there are, and the reason.
    left: BTreeMap<(String, String), usize>,
    failed: Vec<String>,
}

impl Report {
    pub(super) fn new(dry_run: bool) -> Report {
        Report {
            dry_run,
            ..Report::default()
        }
    }

    pub(super) fn removed(&mut self, what: impl Display) {
        self.removed.push(what.to_string());
    }

    /// `what` is a plural where several are left for one reason: `addresses of network cbr0`.
    pub(super) fn left(&mut self, what: impl Display, reason: impl Display) {
        let key = (what.to_string(), reason.to_string());
        *self.left.entry(key).or_default() += 1;
    }

    pub(super) fn failed(&mut self, what: impl Display, error: impl Display) {
        self.failed.push(format!("{what}: {error}"));
    }

    fn text(&self) -> String {
        let verb = match self.dry_run {
            true => "would remove",
            false => "removed",
        };
        let removed = self.removed.iter().map(|what| format!("{verb} {what}\n"));
        let left = self.left.iter().map(|((what, reason), count)| match count {
            1 => format!("left {what}: {reason}\n"),
            count => format!("left {what} ({count}): {reason}\n"),
        });
        let failed = self.failed.iter().map(|line| format!("FAILED {line}\n"));
        let text: String = removed.chain(left).chain(failed).collect();
        match text.is_empty() {
            true => "nothing is left of containers that no longer exist\n".to_owned(),
            false => text,
        }
    }

    /// Prints to stdout; success if nothing failed.
    pub(super) fn print(&self) -> ExitCode {
        let printed = crate::print(self.text().trim_end());
        match self.failed.is_empty() {
            true => printed,
            false => ExitCode::FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_for_one_reason_is_one_line() {
        let mut report = Report::new(false);
        assert_eq!(
            report.text(),
            "nothing is left of containers that no longer exist\n"
        );
        report.removed("address 10.0.0.2");
        report.left("addresses of network cbr0", "another plugin made them");
        report.left("addresses of network cbr0", "another plugin made them");
        report.failed("address 10.0.0.3", "read-only");
        assert_eq!(
            report.text(),
            "removed address 10.0.0.2\nleft addresses of network cbr0 (2): another plugin made them\n\
             FAILED address 10.0.0.3: read-only\n"
        );
        report.dry_run = true;
        assert!(report.text().starts_with("would remove address"));
    }
}
