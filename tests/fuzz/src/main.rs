//! `fuzz SECONDS [PART]`: runs every target, or those whose name contains PART, for so long each, a
//! process each, and JOBS=number at once (default: one for each processor).
//! The seed of the mutations is printed; SEED=number repeats a run.
//! `fuzz INPUT TARGET` executes a target once on the file INPUT.

use fuzz::{
    TARGETS, Target,
    engine::{self, Journal, Limit},
};
use std::{
    env, fs,
    path::PathBuf,
    process::{self, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Before the arguments of the process of one target.
const CHILD: &str = "--one";
/// An execution that takes longer does not come to an end.
const HANGS: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [CHILD, name, seconds, seed, journal] => one(name, seconds, seed, journal),
        [input, name] if fs::metadata(input).is_ok_and(|file| file.is_file()) => {
            reproduce(input, name)
        }
        [seconds, part @ ..] if part.len() <= 1 => match seconds.parse() {
            Ok(seconds) => all(seconds, part.first().copied().unwrap_or_default()),
            Err(_) => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!(
        "usage: fuzz SECONDS [TARGET] | fuzz FILE TARGET; targets: {}",
        names.join(" ")
    );
    ExitCode::from(2)
}

fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn reproduce(input: &str, name: &str) -> ExitCode {
    match (fs::read(input), find(name)) {
        (Ok(input), Some(target)) => {
            (target.run)(&input);
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

/// The process of one target: prints three numbers, or the failure.
fn one(name: &str, seconds: &str, seed: &str, journal: &str) -> ExitCode {
    let (Some(target), Ok(seconds), Ok(seed)) = (find(name), seconds.parse(), seed.parse()) else {
        return usage();
    };
    let journal = Journal::create(journal.as_ref()).expect("the journal can be created");
    let executions = journal.executions.clone();
    thread::spawn(move || end_if_stuck(&executions));
    let limit = Limit::Time(Duration::from_secs(seconds));
    match engine::run(target, seed, limit, Some(journal)) {
        Ok(report) => {
            println!(
                "{} {} {}",
                report.executions, report.inputs, report.branches
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn end_if_stuck(executions: &Arc<AtomicU64>) {
    let mut last = executions.load(Relaxed);
    loop {
        thread::sleep(HANGS);
        let now = executions.load(Relaxed);
        if now == last {
            process::abort();
        }
        last = now;
    }
}

/// Runs the targets, and prints a line for each, and the sum.
fn all(seconds: u64, part: &str) -> ExitCode {
    let targets: Vec<_> = TARGETS
        .iter()
        .filter(|target| target.name.contains(part))
        .collect();
    if targets.is_empty() {
        return usage();
    }
    let number = |name: &str| env::var(name).ok().and_then(|number| number.parse().ok());
    let seed = number("SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64)
    });
    let jobs = number("JOBS").and_then(|jobs| usize::try_from(jobs).ok());
    let jobs = jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    println!(
        "{} targets for {seconds} s each, {jobs} at once; SEED={seed}",
        targets.len()
    );
    let (next, failed, sum) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    let (start, is_measured) = (Instant::now(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Relaxed)) {
                    match child(target, seconds, seed) {
                        Ok([executions, inputs, branches]) => {
                            sum.fetch_add(executions, Relaxed);
                            is_measured.fetch_or(branches > 0, Relaxed);
                            println!(
                                "{:18} {executions:>12} executions {inputs:>6} inputs {branches:>6} branches",
                                target.name
                            );
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Relaxed);
                            println!("{:18} FAILED: {failure}", target.name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!(
        "{} executions of {} targets in {} s{}: {failed} failed",
        sum.into_inner(),
        targets.len(),
        start.elapsed().as_secs(),
        match is_measured.into_inner() {
            true => "",
            false => " without coverage (`make fuzz` builds with it)",
        }
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Executions, inputs and branches of a target's process, or why it failed.
fn child(target: &Target, seconds: u64, seed: u64) -> Result<[u64; 3], String> {
    let name = format!("fuzz-journal-{}-{}", target.name, process::id());
    let journal: PathBuf = env::temp_dir().join(name);
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args([CHILD, target.name, &seconds.to_string(), &seed.to_string()])
        .arg(&journal)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let last = Journal::read(&journal).unwrap_or_default();
    fs::remove_file(&journal).unwrap_or_default();
    match output.status.code() {
        Some(0) => {
            let mut numbers = text.split(' ').filter_map(|number| number.parse().ok());
            Ok(std::array::from_fn(|_| numbers.next().unwrap_or(0)))
        }
        Some(_) if !text.is_empty() => Err(text),
        _ => {
            let reason = format!("its process ended: {}", output.status);
            Err(engine::failure(target, &last, &reason))
        }
    }
}
