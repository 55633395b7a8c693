//! The frame of every plugin (upstream: pkg/skel): reads the environment and stdin, checks, calls
//! the verb, prints.
use crate::{Call, Environment, Verb, delegate::Registry};
use cni_conf::{AddResult, Code, Error, Version};
use nix::errno::Errno;
use std::{
    fmt::Display,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    process::ExitCode,
};

/// The longest configuration that is read from stdin, in bytes. A GC list of 10,000 attachments is
/// about 1 MB.
const LONGEST_CONFIG: u64 = 16 << 20;

/// What ADD gives back.
#[derive(Debug, Clone, PartialEq)]
pub enum AddOutput {
    /// Converted to the configuration's version by the frame.
    Result(AddResult),
    /// A delegate's stdout, printed as it is.
    Raw(Vec<u8>),
}

/// A CNI plugin. Verbs never touch stdout or the environment.
pub trait Plugin: Sync {
    /// The name it is executed by.
    fn name(&self) -> &'static str;
    /// The first line for people (CNI_COMMAND unset), `CNI bridge plugin v0.1.0`.
    fn about(&self) -> String {
        format!("CNI {} plugin v{}", self.name(), env!("CARGO_PKG_VERSION"))
    }
    /// Versions it speaks, oldest first.
    fn versions(&self) -> &'static [Version] {
        Version::ALL
    }
    /// ADD
    fn add(&self, call: &Call) -> Result<AddOutput, Error>;
    /// CHECK
    fn check(&self, call: &Call) -> Result<(), Error>;
    /// DEL
    fn del(&self, call: &Call) -> Result<(), Error>;
    /// GC: call.net.valid_attachments tells who stays; without that key nothing is to be done
    fn gc(&self, call: &Call) -> Result<(), Error>;
    /// STATUS: Ok means that the next ADD can work
    fn status(&self, call: &Call) -> Result<(), Error>;
}

/// One verb of one plugin with a checked call: the bytes for stdout (ADD) or nothing. Used by
/// `main` and by delegation in process.
///
/// A CNI_NETNS that is the plugin's own namespace is code 8. ADD then does nothing at all. DEL
/// cleans up as if the namespace were gone, because it once was another one (`/proc/PID/ns/net` of
/// a process that ended), and touches no interface.
pub fn invoke(plugin: &dyn Plugin, call: &Call) -> Result<Vec<u8>, Error> {
    match call.verb {
        Verb::Add => {
            if is_own_netns(call) {
                return Err(own_netns());
            }
            match plugin.add(call)? {
                AddOutput::Result(result) => Ok(result.to_json(call.net.version)?.into_bytes()),
                AddOutput::Raw(stdout) => Ok(stdout),
            }
        }
        Verb::Del if is_own_netns(call) => {
            plugin.del(&call.without_netns())?;
            Err(own_netns())
        }
        Verb::Check => plugin.check(call).map(nothing),
        Verb::Del => plugin.del(call).map(nothing),
        Verb::Gc => plugin.gc(call).map(nothing),
        Verb::Status => plugin.status(call).map(nothing),
        Verb::Version => Ok(versions(plugin)),
    }
}

/// The whole life of a plugin process: environment, stdin, checks in skel's order, verb, stdout.
/// Exit code 1 after an error.
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

/// In one piece where the kernel takes it so: `io::stdout()` would hold back what follows the last
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

/// A line for people, on stderr. Nobody may be reading it, which fails nothing.
pub fn warn(line: impl Display) {
    writeln!(io::stderr(), "{line}").ok();
}

fn run(
    plugin: &'static dyn Plugin,
    environment: Environment,
    registry: Registry,
) -> Result<Vec<u8>, Error> {
    // before anything that reads stdin, which a runtime need not close for VERSION
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
        .take(LONGEST_CONFIG + 1)
        .read_to_end(&mut config)
        .map_err(|error| failed(&error))?;
    if config.len() as u64 > LONGEST_CONFIG {
        return Err(failed(&format_args!(
            "the configuration is longer than {LONGEST_CONFIG} bytes"
        )));
    }
    Ok(config)
}

/// VERSION's answer, compact and with a newline, as upstream's.
fn versions(plugin: &dyn Plugin) -> Vec<u8> {
    let quoted: Vec<_> = plugin
        .versions()
        .iter()
        .map(|version| format!("{:?}", version.as_str()))
        .collect();
    format!(
        "{{\"cniVersion\":\"{}\",\"supportedVersions\":[{}]}}\n",
        Version::CURRENT.as_str(),
        quoted.join(",")
    )
    .into_bytes()
}

/// True if CNI_NETNS is the namespace that the plugin itself is in and no CNI_NETNS_OVERRIDE allows
/// that. A path that cannot be looked at is left to the verb.
fn is_own_netns(call: &Call) -> bool {
    if call.netns.is_empty() || call.netns_override {
        return false;
    }
    let identity = |path: &str| std::fs::metadata(path).map(|stat| (stat.dev(), stat.ino()));
    match (identity(&call.netns), identity("/proc/thread-self/ns/net")) {
        (Ok(container), Ok(own)) => container == own,
        _ => false,
    }
}

fn own_netns() -> Error {
    Error::new(
        Code::InvalidNetNs,
        "plugin's netns and netns from CNI_NETNS should not be the same",
    )
}

fn nothing(_done: ()) -> Vec<u8> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_end_is_refused() {
        let error = read_config(io::repeat(b' ')).unwrap_err();
        assert_eq!(error.code, 5);
        assert!(
            error.msg.starts_with("error reading from stdin: "),
            "{error}"
        );
        assert_eq!(read_config(&b"{}"[..]), Ok(b"{}".to_vec()));
    }

    #[test]
    fn an_unreadable_stdin_is_told() {
        let folder = std::fs::File::open("/").unwrap();
        assert_eq!(read_config(folder).unwrap_err().code, 5);
    }
}
