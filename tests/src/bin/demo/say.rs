//! What the demo prints: sections, steps, and commands with what they answered.

use std::io::{IsTerminal, stdout};
use tests::Host;

fn bold(text: &str) -> String {
    if stdout().is_terminal() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// A headline.
pub fn section(text: &str) {
    println!("\n{}", bold(&format!("== {text}")));
}

/// Something that was done or found to be so.
pub fn step(text: &str) {
    println!("{} {text}", bold("*"));
}

/// Runs a command on a host as an operator would type it, and shows both; its output.
#[track_caller]
pub fn show(host: &Host, command: &str) -> String {
    let output = host.sh(command);
    println!("{}", bold(&format!("{}# {command}", host.name)));
    for line in output.lines() {
        println!("    {}", line.trim_end());
    }
    output
}
