//! `fuzz SECONDS [PART]`: runs every target, or those whose name contains PART, for so long each.
//! The seed of the mutations is printed; SEED=number repeats a run.

use fuzz::{TARGETS, engine};
use std::{
    env,
    process::ExitCode,
    time::{Duration, SystemTime},
};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
    let part = arguments.next().unwrap_or_default();
    let targets: Vec<_> = TARGETS
        .iter()
        .filter(|target| target.name.contains(&part))
        .collect();
    let Some(seconds) = seconds.filter(|_| !targets.is_empty()) else {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: fuzz SECONDS [TARGET]; targets: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64)
    });
    println!("SEED={seed}");
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        let limit = engine::Limit::Time(Duration::from_secs(seconds));
        match engine::run(target, seed, limit) {
            Ok(executions) => println!("{:18} {executions:>12} executions", target.name),
            Err(failure) => {
                println!("{:18} FAILED: {failure}", target.name);
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
