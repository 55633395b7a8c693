//! The test runner: collects the registered cases; each passes, fails, or is skipped with a reason
//! that is counted and shown.

use libtest_mimic::{Arguments, Completion, Trial};
use std::{
    collections::HashMap,
    mem,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

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
            case.unless = self.unless;
        }
        cases
    }
}

/// A case by name.
pub struct Case {
    name: String,
    unless: Option<SkipReason>,
    run: Box<dyn FnOnce() + Send>,
}

/// A case that runs; it fails by a panic.
pub fn case(name: &str, run: impl FnOnce() + Send + 'static) -> Case {
    Case {
        name: name.to_owned(),
        unless: None,
        run: Box::new(run),
    }
}

impl Case {
    /// Runs it, or gives the reason to skip it.
    fn run(self, reasons: &Reasons) -> Option<String> {
        let reason = self.unless.and_then(|unless| reasons.of(unless));
        if reason.is_none() {
            (self.run)();
        }
        reason
    }
}

/// What the functions that tell reasons to skip answered: each is called once, since it may start
/// programs, and may wait until a Go program is built.
#[derive(Default)]
struct Reasons(Mutex<HashMap<usize, Arc<OnceLock<Option<String>>>>>);

impl Reasons {
    /// Waits until the function has answered.
    fn of(&self, unless: SkipReason) -> Option<String> {
        self.answer(unless).get_or_init(unless).clone()
    }

    fn is_known(&self, unless: SkipReason) -> bool {
        self.answer(unless).get().is_some()
    }

    fn answer(&self, unless: SkipReason) -> Arc<OnceLock<Option<String>>> {
        Arc::clone(lock(&self.0).entry(unless as usize).or_default())
    }

    /// Calls the functions, and waits a while for their answers.
    fn ask(self: &Arc<Reasons>, functions: &[SkipReason]) {
        for unless in functions.iter().copied() {
            let reasons = Arc::clone(self);
            thread::spawn(move || drop(reasons.of(unless)));
        }
        let start = Instant::now();
        let all_known = || functions.iter().all(|unless| self.is_known(*unless));
        while start.elapsed() < ANSWER_TIME && !all_known() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A function that needs longer to answer waits for a program that is being built.
const ANSWER_TIME: Duration = Duration::from_secs(2);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cases that run at once for each processor: most of a case's time is spent waiting.
const CASES_PER_CPU: usize = 3;

/// Runs every registered case, prints the reason of each skip, and exits with the code that tells
/// whether all passed. `--test-threads` says how many run at once. A filter with commas is several:
/// cases run that one of them matches, and none of those that begin with `!`.
pub fn main() -> ! {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    main_at_once(cpus * CASES_PER_CPU)
}

/// The same, with so many cases at once where `--test-threads` does not say.
pub fn main_at_once(cases: usize) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(cases);
    run(arguments)
}

fn run(mut arguments: Arguments) -> ! {
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
    if let Some(filters) = arguments.filter.take_if(|filter| filter.contains(',')) {
        let (without, with): (Vec<_>, Vec<_>) = filters
            .split(',')
            .partition(|filter| filter.starts_with('!'));
        cases.retain(|case| {
            let has = |filter: &&str| case.name.contains(filter.trim_start_matches('!'));
            with.iter().any(has) && !without.iter().any(has)
        });
    }
    let reasons = Arc::new(Reasons::default());
    if !arguments.list {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        let wanted = cases.iter().filter(|case| case.name.contains(filter));
        let mut functions: Vec<_> = wanted.filter_map(|case| case.unless).collect();
        functions.sort_by_key(|unless| *unless as usize);
        functions.dedup_by_key(|unless| *unless as usize);
        reasons.ask(&functions);
        // those that wait for a program run last
        cases.sort_by_key(|case| case.unless.is_some_and(|unless| !reasons.is_known(unless)));
    }
    let skipped = Arc::new(Mutex::new(Vec::new()));
    let trial = |case: Case| {
        let (reasons, skipped) = (Arc::clone(&reasons), Arc::clone(&skipped));
        let name = case.name.clone();
        Trial::ignorable_test(case.name.clone(), move || {
            let Some(reason) = case.run(&reasons) else {
                return Ok(Completion::Completed);
            };
            lock(&skipped).push(format!("skipped {name}: {reason}"));
            Ok(Completion::ignored())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, cases.into_iter().map(trial).collect());
    if !arguments.list {
        let mut skipped = mem::take(&mut *lock(&skipped));
        skipped.sort();
        println!("{} skipped", skipped.len());
        for reason in skipped {
            println!("  {reason}");
        }
    }
    conclusion.exit()
}
