//! Runs a target on its corpus and on mutations of it. An input that takes a branch for the first
//! time is mutated further; without coverage, some are at random.

use crate::{
    Target,
    coverage::Coverage,
    memory::{self, Measure},
    mutation::{Dictionary, Random, mutate},
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// An execution that needs more time of the processor has failed: inputs are short.
pub const SLOW: Duration = Duration::from_secs(2);
/// And one that takes longer: the machine may be busy with something else.
const STUCK: Duration = Duration::from_secs(30);
/// Of the times in /proc (proc(5), CLK_TCK).
const TICK: Duration = Duration::from_millis(10);
/// Inputs that are mutated further.
const KEPT: usize = 8192;
/// Half of the mutations are of the inputs that were kept last.
const LATEST: usize = 64;
/// Without coverage one input of so many is kept.
const SHARE: u64 = 64;

/// How long a run is.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// The run can be repeated.
    Executions(u64),
    Time(Duration),
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub executions: u64,
    /// Inputs at the end that were mutated further, those of the corpus included.
    pub inputs: usize,
    /// Branches that were taken; 0 without coverage.
    pub branches: usize,
}

/// What outlives a process that ends within an execution: the number of the execution, and a file
/// with its input.
#[derive(Debug)]
pub struct Journal {
    file: File,
    buffer: Vec<u8>,
    pub executions: Arc<AtomicU64>,
}

impl Journal {
    pub fn create(path: &Path) -> io::Result<Journal> {
        Ok(Journal {
            file: File::create(path)?,
            buffer: Vec::new(),
            executions: Arc::default(),
        })
    }

    /// The input of the last execution.
    pub fn read(path: &Path) -> Option<Vec<u8>> {
        let bytes = fs::read(path).ok()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        bytes.get(..length).map(<[u8]>::to_vec)
    }

    fn write(&mut self, input: &[u8]) {
        self.buffer.clear();
        self.buffer.extend((input.len() as u64).to_le_bytes());
        self.buffer.extend(input);
        self.file
            .write_all_at(&self.buffer, 0)
            .expect("the journal can be written");
        self.executions.fetch_add(1, Relaxed);
    }
}

/// Executes the target on its corpus, then on mutations: what it did, or the failure with the file
/// that keeps its input.
pub fn run(
    target: &Target,
    seed: u64,
    limit: Limit,
    mut journal: Option<Journal>,
) -> Result<Report, String> {
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    let (start, mut executions) = (Instant::now(), 0);
    let mut random = Random::new(seed);
    let dictionary = Dictionary::of(&corpus);
    let mut coverage = Coverage::new();
    let mut kept = corpus.clone();
    let is_over = |count: u64| match limit {
        Limit::Executions(limit) => count >= limit,
        Limit::Time(time) => start.elapsed() >= time,
    };
    while !is_over(executions) {
        let number = usize::try_from(executions).unwrap_or(usize::MAX);
        let of_corpus = corpus.get(number);
        let input = of_corpus.cloned().unwrap_or_else(|| {
            let latest = match random.below(2) {
                0 => kept.len().saturating_sub(LATEST),
                _ => 0,
            };
            let mut input = kept[latest + random.below(kept.len() - latest)].clone();
            let other = &kept[random.below(kept.len())];
            mutate(&mut input, other, &dictionary, &mut random);
            input
        });
        if let Some(journal) = &mut journal {
            journal.write(&input);
        }
        coverage.start();
        execute(target, &input)?;
        let keep = match coverage.is_measured() {
            true => coverage.is_new(),
            false => executions % SHARE == 0,
        };
        executions += 1;
        if keep && of_corpus.is_none() {
            match kept.len() < KEPT {
                true => kept.push(input),
                false => {
                    let place = corpus.len() + random.below(KEPT - corpus.len());
                    kept[place] = input;
                }
            }
        }
    }
    Ok(Report {
        executions,
        inputs: kept.len(),
        branches: coverage.branches(),
    })
}

fn execute(target: &Target, input: &[u8]) -> Result<(), String> {
    if once(target, input)? <= SLOW {
        return Ok(());
    }
    // again, with the time that the processor took
    let before = processor_time();
    let took = once(target, input)?;
    let needed = processor_time().saturating_sub(before);
    match needed > SLOW || took > STUCK {
        true => Err(failure(target, input, &format!("it took {took:?}"))),
        false => Ok(()),
    }
}

/// How long it took.
fn once(target: &Target, input: &[u8]) -> Result<Duration, String> {
    let (start, memory) = (Instant::now(), Measure::start());
    let ended = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let (took, peak) = (start.elapsed(), memory.peak());
    if let Err(payload) = ended {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied());
        return Err(failure(target, input, text.unwrap_or("a panic")));
    }
    if peak > memory::LARGEST {
        let reason = format!("it needed {peak} bytes of memory");
        return Err(failure(target, input, &reason));
    }
    Ok(took)
}

/// Of this process, all threads; 0 if /proc does not tell.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    // utime and stime, fields 14 and 15
    let ticks = fields.split(' ').skip(12).take(2);
    let ticks: u32 = ticks.filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// The text of a failure, whose input is kept in a file.
pub fn failure(target: &Target, input: &[u8], reason: &str) -> String {
    let file = std::env::temp_dir().join(format!("fuzz-{}-{}", target.name, std::process::id()));
    let kept = match fs::write(&file, input) {
        Ok(()) => format!("its input is {}", file.display()),
        Err(error) => format!("its input cannot be written: {error}"),
    };
    format!("{reason} ({kept})")
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
