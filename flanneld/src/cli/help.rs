//! The text of `-h`: at most 80 columns wide, flags with one dash as in the documentation.

use super::go_flags;
use clap::{Arg, Command};

/// Longest line, characters.
const WIDTH: usize = 80;
/// Where the descriptions of flags and commands begin.
const COLUMN: usize = 28;
/// The heading of flags that name none.
const FLAGS: &str = "Flags";

/// What a command is for, how it is called, its subcommands (each with what it does), arguments and
/// flags by group, and the text that it adds.
pub(super) fn render(command: &Command, subcommands: &[(&str, &str)]) -> String {
    let mut text = String::new();
    if let Some(about) = command.get_about() {
        paragraph(&mut text, &about.to_string());
    }
    text.push_str(&command.clone().render_usage().to_string());
    text.push('\n');
    if !subcommands.is_empty() {
        text.push_str("\nCommands:\n");
        for (name, what) in subcommands {
            entry(&mut text, name, what);
        }
    }
    let positional: Vec<_> = command.get_positionals().filter(is_shown).collect();
    if !positional.is_empty() {
        text.push_str("\nArguments:\n");
        for arg in positional {
            entry(&mut text, &value_name(arg), &description(arg));
        }
    }
    for (heading, flags) in groups(command) {
        text.push_str(&format!("\n{heading}:\n"));
        for arg in flags {
            entry(&mut text, &flag(arg), &description(arg));
        }
    }
    if let Some(more) = command.get_after_help() {
        text.push_str(&format!("\n{more}\n"));
    }
    text
}

/// The flags under their headings, in the order in which the headings come first.
fn groups(command: &Command) -> Vec<(&str, Vec<&Arg>)> {
    let mut groups: Vec<(&str, Vec<&Arg>)> = Vec::new();
    let is_flag = |arg: &&Arg| arg.get_long().is_some() && !go_flags::is_help(arg);
    for arg in command.get_arguments().filter(is_flag).filter(is_shown) {
        let heading = arg.get_help_heading().unwrap_or(FLAGS);
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, flags)) => flags.push(arg),
            None => groups.push((heading, vec![arg])),
        }
    }
    groups
}

fn is_shown(arg: &&Arg) -> bool {
    !arg.is_hide_set()
}

/// "-iface NAME|IP"; a bool stands alone.
fn flag(arg: &Arg) -> String {
    let name = arg.get_long().unwrap_or_default();
    match go_flags::is_bool(arg) {
        true => format!("-{name}"),
        false => format!("-{name} {}", value_name(arg)),
    }
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    names.join(" ")
}

/// What the flag does, with its default unless that is empty or false.
fn description(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    let default = defaults.join(",");
    if !default.is_empty() && default != "false" {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&format!("[default: {default}]"));
    }
    text
}

/// A flag or command, and beside it what it does.
fn entry(text: &mut String, name: &str, description: &str) {
    let name = format!("  {name}");
    text.push_str(&name);
    let mut lines = wrap(description, WIDTH - COLUMN).into_iter();
    if name.chars().count() + 2 <= COLUMN {
        let first = lines.next().unwrap_or_default();
        let padding = COLUMN.saturating_sub(name.chars().count());
        if !first.is_empty() {
            text.push_str(&format!("{:padding$}{first}", ""));
        }
    }
    text.push('\n');
    for line in lines {
        text.push_str(&format!("{:COLUMN$}{line}\n", ""));
    }
}

/// A paragraph, and an empty line after it.
fn paragraph(text: &mut String, words: &str) {
    for line in wrap(words, WIDTH) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push('\n');
}

/// Lines of at most `width` characters; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
