//! The frame of every plugin (upstream: pkg/skel): reads the environment and stdin, calls the verb,
//! prints its output.

use crate::{
    Call, Environment, Plugin, Registry, Verb,
    invoke::{invoke, versions},
    warn,
};
use cni_conf::{Code, Error};
use nix::errno::Errno;
use std::{
    fmt::Display,
    io::{self, Read},
    process::ExitCode,
};

/// Longest configuration that is read from stdin, in bytes. A GC list of 10,000 attachments is
/// about 1 MB.
const MAX_CONFIG_LEN: u64 = 16 << 20;

/// Runs a plugin's process: environment, stdin, checks in skel's order, verb, stdout. Exit code 1
/// after an error.
pub fn main(plugin: &'static dyn Plugin, registry: Registry) -> ExitCode {
    let environment = Environment::of_process();
    if environment.command.is_empty() {
        warn(plugin.about());
        let versions: Vec<_> = plugin.versions().iter().map(|v| v.as_str()).collect();
        warn(format_args!(
            "CNI protocol versions supported: {}",
            versions.join(", ")
        ));
        return ExitCode::SUCCESS;
    }
    let (stdout, code) = match run(plugin, environment, registry) {
        Ok(stdout) => (stdout, ExitCode::SUCCESS),
        Err(error) => (error.to_json().into_bytes(), ExitCode::FAILURE),
    };
    match print(&stdout) {
        Ok(()) => code,
        Err(error) => {
            warn(format_args!("cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// In one write(2) if the kernel takes all of it: `io::stdout()` would buffer what follows the last
/// newline.
fn print(mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(io::stdout(), bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn run(
    plugin: &'static dyn Plugin,
    environment: Environment,
    registry: Registry,
) -> Result<Vec<u8>, Error> {
    // before stdin is read: a runtime need not close it for VERSION
    if environment.verb() == Some(Verb::Version) {
        return Ok(versions(plugin));
    }
    environment.check()?;
    let config = read_config(io::stdin().lock())?;
    let call = Call::new(environment, config, plugin.versions(), registry)?;
    invoke(plugin, &call)
}

fn read_config(stdin: impl Read) -> Result<Vec<u8>, Error> {
    let mut config = Vec::new();
    let failed =
        |why: &dyn Display| Error::new(Code::Io, format!("error reading from stdin: {why}"));
    stdin
        .take(MAX_CONFIG_LEN + 1)
        .read_to_end(&mut config)
        .map_err(|error| failed(&error))?;
    if config.len() as u64 > MAX_CONFIG_LEN {
        return Err(failed(&format_args!(
            "the configuration is longer than {MAX_CONFIG_LEN} bytes"
        )));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_configuration_is_refused() {
        let error = read_config(io::repeat(b' ')).unwrap_err();
        assert_eq!(error.code, 5);
        assert!(
            error.msg.starts_with("error reading from stdin: "),
            "{error}"
        );
        assert_eq!(read_config(&b"{}"[..]), Ok(b"{}".to_vec()));
    }

    #[test]
    fn unreadable_stdin_is_an_io_error() {
        let folder = std::fs::File::open("/").unwrap();
        assert_eq!(read_config(folder).unwrap_err().code, 5);
    }
}
