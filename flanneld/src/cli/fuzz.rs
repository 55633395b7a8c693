//! The fuzz target of the command line.

use super::{commands::NodeCommand, options::Options};
use std::{collections::BTreeMap, ffi::OsString};

/// Arguments, a line each; `FLANNELD_X=value` is a variable. What is logged has no password.
pub(crate) fn command_line(text: &str) {
    let mut variables = BTreeMap::new();
    let mut arguments = Vec::new();
    for line in text.lines().filter(|line| !line.contains('\0')) {
        match line.split_once('=') {
            Some((name, value)) if name.starts_with("FLANNELD_") => {
                variables.insert(name, OsString::from(value));
            }
            _ => arguments.push(line.to_owned()),
        }
    }
    drop(NodeCommand::read("flanneld", &arguments));
    let variable = |name: &str| variables.get(name).cloned();
    match Options::read(arguments, variable) {
        Ok(options) => {
            options.renew_margin();
            for arg in &options.given {
                if let Some((name, value)) = arg.split_once('=')
                    && name.ends_with("password")
                {
                    assert!(matches!(value, "" | "(not shown)"), "{arg}");
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
