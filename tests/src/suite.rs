//! The test runner: collects the registered cases; each passes, fails, or is skipped with a reason
//! that is counted and shown.

use libtest_mimic::{Arguments, Trial};
use std::{num::NonZero, thread};

/// Why a case cannot run on this machine; `None` where it can.
pub type SkipReason = fn() -> Option<String>;

/// What [`macro@crate::scenario`] and [`macro@crate::scenarios`] register.
pub struct Registered {
    module: &'static str,
    unless: Option<SkipReason>,
    make: Make,
}

enum Make {
    One(&'static str, fn()),
    Many(fn() -> Vec<Case>),
}

inventory::collect!(Registered);

impl Registered {
    /// One case: its function fails by a panic.
    pub const fn scenario(
        module: &'static str,
        name: &'static str,
        run: fn(),
        unless: Option<SkipReason>,
    ) -> Registered {
        Registered {
            module,
            unless,
            make: Make::One(name, run),
        }
    }

    /// Cases that a function makes.
    pub const fn scenarios(
        module: &'static str,
        _name: &'static str,
        make: fn() -> Vec<Case>,
        unless: Option<SkipReason>,
    ) -> Registered {
        Registered {
            module,
            unless,
            make: Make::Many(make),
        }
    }

    fn cases(&self) -> Vec<Case> {
        let mut modules = self.module.split("::");
        let root = modules.next().unwrap_or(self.module);
        let area = modules.next().unwrap_or(root);
        let mut cases = match self.make {
            Make::One(name, run) => vec![case(name, run)],
            Make::Many(make) => make(),
        };
        for case in &mut cases {
            case.name = format!("{area}/{}", case.name);
        }
        match self.unless.and_then(|unless| unless()) {
            Some(reason) => cases
                .into_iter()
                .map(|case| case.skipped(&reason))
                .collect(),
            None => cases,
        }
    }
}

/// A case by name.
pub struct Case {
    name: String,
    run: Result<Box<dyn FnOnce() + Send>, String>,
}

/// A case that runs; it fails by a panic.
pub fn case(name: &str, run: impl FnOnce() + Send + 'static) -> Case {
    Case {
        name: name.to_owned(),
        run: Ok(Box::new(run)),
    }
}

impl Case {
    /// Skips it if there is a reason to.
    #[must_use]
    pub fn unless(self, reason: Option<String>) -> Case {
        match reason {
            Some(reason) => self.skipped(&reason),
            None => self,
        }
    }

    fn skipped(self, reason: &str) -> Case {
        Case {
            name: self.name,
            run: Err(reason.to_owned()),
        }
    }
}

/// Cases that run at once for each processor: most of a case's time is spent waiting.
const CASES_PER_CPU: usize = 2;

/// Runs every registered case, prints the reason of each skip, and exits with the code that tells
/// whether all passed. `--test-threads` says how many run at once.
pub fn main() -> ! {
    let mut arguments = Arguments::from_args();
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(cpus * CASES_PER_CPU);
    run(&arguments)
}

/// The same, one case after the other: for cases that share a machine.
pub fn main_in_turn() -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    run(&arguments)
}

fn run(arguments: &Arguments) -> ! {
    let registered = inventory::iter::<Registered>.into_iter();
    let mut cases: Vec<Case> = registered.flat_map(Registered::cases).collect();
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    for pair in cases.windows(2) {
        assert!(
            pair[0].name != pair[1].name,
            "two cases are named {}",
            pair[0].name
        );
    }
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
    let conclusion = libtest_mimic::run(arguments, trials);
    if !arguments.list {
        println!("{} skipped", reasons.len());
        for reason in reasons {
            println!("  {reason}");
        }
    }
    conclusion.exit()
}
