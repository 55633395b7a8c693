//! The test runner's cases: passed, failed, or skipped with a reason that is counted and shown.

use libtest_mimic::{Arguments, Trial};

/// A case by name.
pub struct Case {
    name: String,
    run: Result<Box<dyn FnOnce() + Send>, String>,
}

/// A case that runs; it fails by panicking.
pub fn case(name: &str, run: impl FnOnce() + Send + 'static) -> Case {
    Case {
        name: name.to_owned(),
        run: Ok(Box::new(run)),
    }
}

/// A case that cannot run on this machine, and why.
pub fn skipped(name: &str, reason: &str) -> Case {
    Case {
        name: name.to_owned(),
        run: Err(reason.to_owned()),
    }
}

impl Case {
    /// Skips it if there is a reason to.
    #[must_use]
    pub fn unless(self, reason: Option<String>) -> Case {
        match reason {
            Some(reason) => Case {
                name: self.name,
                run: Err(reason),
            },
            None => self,
        }
    }
}

/// Runs all, prints why any was skipped, and ends the process with the right code.
pub fn main(cases: Vec<Case>) -> ! {
    run(cases, Arguments::from_args())
}

/// The same, one after the other: for cases that share a machine.
pub fn main_in_turn(cases: Vec<Case>) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    run(cases, arguments)
}

fn run(cases: Vec<Case>, arguments: Arguments) -> ! {
    let mut reasons = Vec::new();
    let trials = cases
        .into_iter()
        .map(|case| match case.run {
            Ok(run) => Trial::test(case.name, move || {
                run();
                Ok(())
            }),
            Err(reason) => {
                reasons.push(format!("skipped {}: {reason}", case.name));
                Trial::test(case.name, || Ok(())).with_ignored_flag(true)
            }
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{} skipped", reasons.len());
        for reason in reasons {
            println!("  {reason}");
        }
    }
    conclusion.exit()
}
