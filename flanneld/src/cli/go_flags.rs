//! Command lines and environment as Go's `flag` package and upstream read them, made into what clap reads: `-x` is `--x`, a
//! value may follow its flag or stand behind `=`, bools take a value only behind `=`, and a `FLANNELD_*` variable counts
//! where its flag is not on the command line.
use clap::{Arg, ArgAction, Command};

/// Rewrites arguments so that each flag is one argument, `--name=value`. What is no flag, and what clap should complain
/// about, is passed on.
pub fn rewrite(command: &Command, args: impl IntoIterator<Item = String>) -> Vec<String> {
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

/// For each flag that is not in `args` and whose variable is set and not empty: the argument it stands for. A value that
/// the flag does not take is reported and left out: the daemon starts all the same.
pub fn from_environment(
    command: &Command,
    args: &[String],
    variable: impl Fn(&str) -> Option<String>,
    mut bad: impl FnMut(String),
) -> Vec<String> {
    let given = |name: &str| {
        let flag = format!("--{name}");
        args.iter()
            .any(|arg| arg.split('=').next() == Some(flag.as_str()))
    };
    let mut found = Vec::new();
    for name in command
        .get_arguments()
        .filter_map(Arg::get_long)
        .filter(|name| !given(name))
    {
        let key = format!("FLANNELD_{}", name.to_uppercase().replace('-', "_"));
        let Some(value) = variable(&key).filter(|value| !value.is_empty()) else {
            continue;
        };
        let value = match find(command, name) {
            Some(known) if is_bool(known) => bool_value(&value),
            _ => value,
        };
        let arg = format!("--{name}={value}");
        match command.clone().try_get_matches_from(["flanneld", &arg]) {
            Ok(_) => found.push(arg),
            Err(error) => {
                let reason = error.to_string();
                let first = reason.lines().next().unwrap_or_default();
                bad(format!(
                    "Failed to set flag FLANNELD from env {key}: {first}"
                ));
            }
        }
    }
    found
}

fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name))
}

/// Help is a flag without a value, and so is everything that can be true or false.
fn is_bool(arg: &Arg) -> bool {
    let takes_bool = arg
        .get_possible_values()
        .iter()
        .any(|value| value.get_name() == "true");
    takes_bool || matches!(arg.get_action(), ArgAction::Help | ArgAction::SetTrue)
}

/// Go's `strconv.ParseBool`.
fn bool_value(text: &str) -> String {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => "true".to_owned(),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => "false".to_owned(),
        other => other.to_owned(),
    }
}
