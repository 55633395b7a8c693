//! Runs a target on its corpus and on mutations of it.

use crate::{
    Target,
    mutation::{Random, mutate},
};
use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// An execution that takes longer has failed: inputs are short.
pub const SLOW: Duration = Duration::from_secs(2);
/// Mutated inputs that are mutated further.
const KEPT: usize = 64;

/// How long a run is.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// The run can be repeated.
    Executions(u64),
    Time(Duration),
}

/// Executes the target on its corpus, then on mutations: the number of executions, or the failure
/// with the file that keeps its input.
pub fn run(target: &Target, seed: u64, limit: Limit) -> Result<u64, String> {
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    let (start, mut count) = (Instant::now(), 0);
    let mut random = Random::new(seed);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let is_over = |count: u64| match limit {
        Limit::Executions(limit) => count >= limit,
        Limit::Time(time) => start.elapsed() >= time,
    };
    while !is_over(count) {
        let number = usize::try_from(count).unwrap_or(usize::MAX);
        let input = match corpus.get(number) {
            Some(input) => input.clone(),
            None => {
                let other = &corpus[random.below(corpus.len())];
                let mut input = match random.below(4) {
                    0 if !kept.is_empty() => kept[random.below(kept.len())].clone(),
                    _ => corpus[random.below(corpus.len())].clone(),
                };
                mutate(&mut input, other, &mut random);
                input
            }
        };
        execute(target, &input)?;
        count += 1;
        if count % 64 == 0 {
            let slot = random.below(KEPT);
            match kept.get_mut(slot) {
                Some(old) => *old = input,
                None => kept.push(input),
            }
        }
    }
    Ok(count)
}

fn execute(target: &Target, input: &[u8]) -> Result<(), String> {
    let start = Instant::now();
    let ended = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = start.elapsed();
    let reason = match ended {
        Ok(()) if took <= SLOW => return Ok(()),
        Ok(()) => format!("it took {took:?}"),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or(payload.downcast_ref::<&str>().copied());
            text.unwrap_or("a panic").to_owned()
        }
    };
    let file = std::env::temp_dir().join(format!("fuzz-{}-{}", target.name, std::process::id()));
    let kept = match fs::write(&file, input) {
        Ok(()) => format!("its input is {}", file.display()),
        Err(error) => format!("its input cannot be written: {error}"),
    };
    Err(format!("{reason} ({kept})"))
}

/// The files of the target's folder, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| fs::read(file).ok())
        .collect()
}
