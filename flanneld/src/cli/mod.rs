//! The command line: options, Go's flag syntax, log.
pub mod go_flags;
pub mod log;
pub mod options;
