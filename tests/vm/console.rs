//! What a virtual machine wrote to its console.

use std::{fmt, fs, path::PathBuf};

/// Lines of the end that a failure shows.
const END: usize = 200;

/// The console of a machine that has ended.
pub(crate) struct Console {
    /// The file with the whole text.
    pub path: PathBuf,
    text: String,
}

/// What the runner of the scenarios counted, over all rounds.
#[derive(Default)]
pub(crate) struct Results {
    /// Scenarios that passed.
    pub passed: usize,
    /// Scenarios that failed.
    pub failed: usize,
    skipped: usize,
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Results {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Console {
    /// Reads the file.
    pub(crate) fn read(path: PathBuf) -> Console {
        let bytes = fs::read(&path).unwrap_or_default();
        // the lines of a serial console end in CR LF
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        Console { path, text }
    }

    /// Whether the machine's command ended with the exit code 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.text.lines().any(|line| line == "EXIT:0")
    }

    /// The sum of the lines "test result: ok. 3 passed; 0 failed; 1 ignored; ...".
    pub(crate) fn results(&self) -> Results {
        let lines = self.text.lines();
        let lines = lines.filter_map(|line| line.strip_prefix("test result: "));
        lines.fold(Results::default(), |sum, line| {
            let count = |what: &str| {
                let before = line.split(what).next().unwrap_or_default();
                let number = before.split_whitespace().next_back().unwrap_or_default();
                number.parse().unwrap_or(0)
            };
            Results {
                passed: sum.passed + count(" passed"),
                failed: sum.failed + count(" failed"),
                skipped: sum.skipped + count(" ignored"),
            }
        })
    }

    /// A line for each scenario that ran or was skipped: "ran NAME", "skipped NAME: reason". The
    /// script `scripts/test` reads them.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.text.lines().filter_map(outcome).collect();
        lines.sort();
        lines.dedup();
        lines
    }

    /// The last lines.
    pub(crate) fn end(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(END)..].join("\n")
    }
}

fn outcome(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["test", name, "...", "ok"] => Some(format!("ran {name} in the virtual machine")),
        ["skipped", ..] => Some(format!("in the virtual machine: {}", line.trim())),
        _ => None,
    }
}
