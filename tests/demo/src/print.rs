//! The output of the demo: sections, steps, and commands with their output.

use std::io::{IsTerminal, stdout};
use tests::Host;

fn bold(text: &str) -> String {
    if stdout().is_terminal() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Prints a heading.
pub(crate) fn section(text: &str) {
    println!("\n{}", bold(&format!("== {text}")));
}

/// Prints a finished step.
pub(crate) fn step(text: &str) {
    println!("{} {text}", bold("*"));
}

/// Runs a command on a host; prints the command and its output, and returns the output.
#[track_caller]
pub(crate) fn show(host: &Host, command: &str) -> String {
    let output = host.sh(command);
    println!("{}", bold(&format!("{}# {command}", host.name)));
    for line in output.lines() {
        println!("    {}", line.trim_end());
    }
    output
}
