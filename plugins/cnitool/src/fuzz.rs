//! The entry point of the fuzz target in tests/fuzz. No program calls it.

use crate::options::{self, Command};
use std::ffi::OsString;

/// The command line, a line each argument; `NAME=value` is a variable.
pub fn command_line(text: &str) {
    let variable = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(key, _)| *key == name)?;
        Some(OsString::from(value))
    };
    let arguments = text.lines().filter(|line| !line.contains(['=', '\0']));
    match options::read(arguments.map(OsString::from), variable) {
        Ok(Command::Run(options)) => {
            assert!(options.container_id().starts_with("cnitool-"));
            let is_pair = |(key, value): &(String, String)| !key.is_empty() && !value.is_empty();
            assert!(options.args.iter().all(is_pair), "{:?}", options.args);
        }
        Ok(Command::Help) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
