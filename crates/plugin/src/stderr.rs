//! Messages of a plugin for people.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a line to stderr.
pub fn warn(line: impl Display) {
    // best effort: a closed stderr fails no plugin
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}
