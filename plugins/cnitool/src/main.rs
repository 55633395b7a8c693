//! `cnitool`: makes, checks and takes away attachments by hand, as a runtime would (upstream:
//! containernetworking/cni/cnitool).
mod options;

use cni_conf::{Error, Version};
use options::{Options, Verb};
use runtime::{Runtime, RuntimeConf};
use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

const HELP: &str = include_str!("help.txt");

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return print(HELP);
    }
    let done = Options::read(&args, |name| env::var_os(name)).and_then(|options| run(&options));
    match done {
        Ok(stdout) => print(&stdout),
        Err(error) => {
            plugin::warn(error);
            ExitCode::FAILURE
        }
    }
}

/// What goes to stdout.
fn run(options: &Options) -> Result<String, Error> {
    let runtime = Runtime {
        path: options.path.clone(),
        cache_dir: "/var/lib/cni".into(),
    };
    let list = Runtime::load(&options.net_dir, &options.network)?;
    let rc = RuntimeConf {
        container_id: options::container_id(&options.netns),
        netns: options.netns.clone(),
        ifname: options.ifname.clone(),
        args: options.args.clone(),
        capability_args: options.capability_args.clone(),
    };
    match options.verb {
        Verb::Add => {
            let result = runtime.add(&list, &rc)?;
            let version = Version::parse(&list.cni_version).unwrap_or(Version::CURRENT);
            return Ok(result.to_json(version)? + "\n");
        }
        Verb::Check => runtime.check(&list, &rc)?,
        Verb::Del => runtime.del(&list, &rc)?,
        Verb::Gc => runtime.gc(&list, options.valid.as_deref())?,
        Verb::Status => runtime.status(&list)?,
    }
    Ok(String::new())
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
