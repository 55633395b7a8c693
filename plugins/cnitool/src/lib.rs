//! `cnitool`: makes, checks and removes attachments by hand, as a runtime does (upstream:
//! containernetworking/cni/cnitool).

pub mod fuzz;
mod options;

use cni_conf::{Error, Version};
use options::{Command, Options, Verb};
use plugin::warn;
use runtime::{Runtime, RuntimeConf, Status};
use std::{
    env,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

const HELP: &str = include_str!("help.txt");
const CACHE_DIR: &str = "/var/lib/cni";
/// Exit code of arguments and variables that cannot be used; every other failure has 1.
const USAGE: u8 = 2;

/// Does what the arguments and variables of this process say.
pub fn main() -> ExitCode {
    let command = options::read(env::args_os().skip(1), |name| env::var_os(name));
    match command {
        Ok(Command::Help) => print(HELP),
        Ok(Command::Run(options)) => match run(&options) {
            Ok(stdout) => print(&stdout),
            Err(error) => fail(error),
        },
        Err(error) => {
            warn(error);
            ExitCode::from(USAGE)
        }
    }
}

/// Returns what goes to stdout.
fn run(options: &Options) -> Result<String, Error> {
    let runtime = Runtime {
        path: options.path.clone(),
        cache_dir: CACHE_DIR.into(),
    };
    let list = Runtime::load(&options.net_dir, &options.network)?;
    let rc = RuntimeConf {
        container_id: options.container_id(),
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
        Verb::Status => {
            if let Status::TooOld(version) = runtime.status(&list)? {
                return Ok(too_old(&list.name, version));
            }
        }
    }
    Ok(String::new())
}

fn too_old(network: &str, version: Version) -> String {
    format!(
        "network {network:?} has cniVersion {}, which is too old to tell whether the next add can work: STATUS is\n\
         part of CNI since 1.1.0. Its plugins exist and support the version; nothing else is checked.\n",
        version.as_str()
    )
}

fn fail(error: impl Display) -> ExitCode {
    warn(error);
    ExitCode::FAILURE
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_80_columns() {
        assert!(HELP.lines().all(|line| line.chars().count() <= 80));
    }
}
