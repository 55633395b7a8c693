//! The log: one line for each event, on stderr.

use std::io::{IsTerminal, stderr};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// `verbosity` is the value of `-v`.
pub(super) fn start(verbosity: i32) {
    let level = match verbosity {
        ..=0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // the library logs each attempt that fails; flanneld says what it waits for, and why
    let library = match level {
        LevelFilter::INFO => LevelFilter::OFF,
        level => level,
    };
    let lines = fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    let levels = Targets::new()
        .with_default(level)
        .with_target("kube_client", library);
    registry().with(lines).with(levels).init();
}
