//! Go's `flag` syntax and upstream's environment variables, rewritten to what clap reads: `-x` is
//! `--x`, a value follows its flag or `=`, a bool takes a value only behind `=`, and a `FLANNELD_*`
//! variable counts where its flag is not on the command line.

use super::usage;
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// A variable whose value its flag does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the variable {variable} cannot be used: {reason}; correct it, or unset it")]
pub(crate) struct RefusedVariable {
    variable: String,
    reason: String,
}

/// Rewrites arguments so that each flag is one argument, `--name=value`. Arguments that are not
/// flags and flags that clap does not know are passed on.
pub(crate) fn rewrite(command: &Command, args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut rewritten = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            rewritten.push(arg);
            continue;
        };
        let flag = match flag.strip_prefix('-').unwrap_or(flag) {
            "h" => "help",
            flag => flag,
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        rewritten.push(match (find(command, name), value) {
            (Some(known), Some(value)) if is_bool(known) => {
                format!("--{name}={}", bool_value(&value))
            }
            (Some(known), None) if is_bool(known) => format!("--{name}=true"),
            (Some(_), Some(value)) => format!("--{name}={value}"),
            (Some(_), None) => match args.next() {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            },
            (None, Some(value)) => format!("--{name}={value}"),
            (None, None) => format!("--{name}"),
        });
    }
    rewritten
}

/// The arguments that the environment adds: one for each flag that is not in `args` and whose
/// variable is set and not empty. Fails at the first value that its flag does not take: a node
/// without what the variable asks for would be wrong without a message.
pub(crate) fn from_environment(
    command: &Command,
    args: &[String],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<String>, RefusedVariable> {
    let is_given = |name: &str| {
        let flag = format!("--{name}");
        args.iter()
            .any(|arg| arg.split('=').next() == Some(flag.as_str()))
    };
    let mut added = Vec::new();
    for known in command.get_arguments() {
        let Some(name) = known.get_long().filter(|name| !is_given(name)) else {
            continue;
        };
        let key = format!("FLANNELD_{}", name.to_uppercase().replace('-', "_"));
        let Some(value) = variable(&key).filter(|value| !value.is_empty()) else {
            continue;
        };
        let refused = |reason: String| RefusedVariable {
            variable: key.clone(),
            reason,
        };
        let value = value.into_string();
        let value = value.map_err(|_| refused("its value is not Unicode".to_owned()))?;
        let value = if is_bool(known) {
            bool_value(&value)
        } else {
            value
        };
        let arg = format!("--{name}={value}");
        let matches = command.clone().try_get_matches_from(["flanneld", &arg]);
        matches.map_err(|error| refused(usage::reason(&error)))?;
        added.push(arg);
    }
    Ok(added)
}

fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name))
}

/// True if the flag takes no value as the next argument: help, and every bool.
pub(super) fn is_bool(arg: &Arg) -> bool {
    let takes_bool = arg
        .get_possible_values()
        .iter()
        .any(|value| value.get_name() == "true");
    takes_bool || is_help(arg)
}

pub(super) fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Help)
}

/// Go's `strconv.ParseBool`.
fn bool_value(text: &str) -> String {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => "true".to_owned(),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => "false".to_owned(),
        other => other.to_owned(),
    }
}
