//! The output: a heading for each part, a line for each step, and how long each part took.

use std::{
    io::{IsTerminal, stdout},
    time::{Duration, Instant},
};

/// The parts so far.
#[derive(Default)]
pub(crate) struct Report {
    parts: Vec<(&'static str, Duration)>,
}

impl Report {
    /// Runs a part.
    pub(crate) fn part<T>(&mut self, name: &'static str, run: impl FnOnce() -> T) -> T {
        println!("\n{}", bold(&format!("== {name}")));
        let start = Instant::now();
        let value = run();
        self.parts.push((name, start.elapsed()));
        value
    }

    /// Prints how long each part took.
    pub(crate) fn print(&self) {
        println!("\n{}", bold("== how long each part took"));
        let mut total = Duration::ZERO;
        for (name, time) in &self.parts {
            total += *time;
            println!("{:>8.1} s  {name}", time.as_secs_f32());
        }
        println!("{:>8.1} s  in all", total.as_secs_f32());
    }
}

/// Prints a finished step.
pub(crate) fn step(text: &str) {
    println!("{} {text}", bold("*"));
}

fn bold(text: &str) -> String {
    if stdout().is_terminal() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
