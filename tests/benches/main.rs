//! `make bench`: our plugins, the Go plugins and bare kernel requests, interleaved in one run; and
//! flanneld's backends.
//!
//! `ROUNDS=n` sets the number of samples of each measure (default 40), `PEERS=dir` adds a folder of
//! plugins. Writes `bench.json`, `bench.txt` and an SVG plot for each measure to `$BENCH_OUT`.

mod contender;
mod measure;
mod measures;
mod report;
mod svg;

use contender::Contender;
use std::{env, fs, path::PathBuf, time::Instant};

fn main() {
    let out = PathBuf::from(env::var_os("BENCH_OUT").unwrap_or_else(|| "target/bench".into()));
    fs::create_dir_all(&out).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    tests::sandbox::enter();
    let rounds = env::var("ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(40);
    let contenders = Contender::all(&out);
    for contender in &contenders {
        println!("{:12} {}", contender.name, contender.about);
    }
    let only = env::args().nth(1);
    let start = Instant::now();
    let mut table = report::Report::default();
    let only = only.as_deref();
    let named = |name: &str| only.is_none_or(|only| name.contains(only));
    let usual = measures::ALL.iter().filter(|(name, _)| named(name));
    let on_request = measures::ON_REQUEST.iter();
    let on_request = on_request.filter(|(name, _)| only == Some(*name));
    for (name, run) in usual.chain(on_request) {
        eprintln!("[{:4.0} s] {name} ...", start.elapsed().as_secs_f32());
        for measure in run(&contenders, rounds) {
            print!("{}", report::rows(&measure));
            table.measures.push(measure);
        }
    }
    table
        .write(&out)
        .unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    println!(
        "\n{:.0} s; table, JSON and plots are in {}",
        start.elapsed().as_secs_f32(),
        out.display()
    );
}
