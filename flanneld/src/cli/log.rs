//! The log: one line for each event, on stderr.

use std::io::{IsTerminal, stderr};
use tracing::level_filters::LevelFilter;

/// `verbosity` is the value of `-v`.
pub(super) fn start(verbosity: i32) {
    let level = match verbosity {
        ..=0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .with_max_level(level)
        .init();
}
