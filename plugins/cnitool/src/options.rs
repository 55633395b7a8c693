//! The command line and the environment variables, named as those of upstream's cnitool.

use cni_conf::GcAttachment;
use lexopt::{
    Arg::{Long, Short, Value as Positional},
    Parser, ValueExt,
};
use plugin::hash::sha512_prefix;
use serde_json::{Map, Value};
use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Component, PathBuf},
};

const USAGE: &str = "usage: cnitool add|check|del|gc|status NETWORK NETNS   (see cnitool --help)";

/// Why the arguments or the environment are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    /// An option is unknown or lacks its value.
    #[error("{0}\n{USAGE}")]
    Arguments(#[from] lexopt::Error),
    /// The number of arguments is wrong.
    #[error("{0}\n{USAGE}")]
    Usage(&'static str),
    /// The first argument is not a command.
    #[error("unknown command {0:?}\n{USAGE}")]
    UnknownCommand(String),
    /// `--valid` is not a list of attachments.
    #[error("--valid: {0}; it looks like [{{\"containerID\":\"c1\",\"ifname\":\"eth0\"}}]")]
    Valid(#[source] serde_json::Error),
    /// The namespace's path cannot be made absolute.
    #[error("{netns:?}: {source}")]
    Netns { netns: String, source: io::Error },
    /// A variable or a path is not UTF-8.
    #[error("{name} {value:?} is not UTF-8")]
    NotUtf8 { name: String, value: OsString },
    /// CNI_PATH is missing.
    #[error("CNI_PATH is not set: name the folders with plugins, such as CNI_PATH=/opt/cni/bin")]
    NoPath,
    /// CNI_ARGS has a part that is not `K=V`.
    #[error("invalid CNI_ARGS pair {0:?}")]
    Args(String),
    /// CAP_ARGS is malformed.
    #[error("CAP_ARGS is not a JSON object: {0}")]
    CapabilityArgs(#[source] serde_json::Error),
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Box<Options>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
}

/// A verb with its parameters.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) verb: Verb,
    pub(crate) network: String,
    /// Absolute; "" if the verb needs none.
    pub(crate) netns: String,
    /// CNI_PATH, split.
    pub(crate) path: Vec<PathBuf>,
    /// NETCONFPATH
    pub(crate) net_dir: PathBuf,
    /// CNI_IFNAME
    pub(crate) ifname: String,
    /// The pairs of CNI_ARGS.
    pub(crate) args: Vec<(String, String)>,
    /// CAP_ARGS
    pub(crate) capability_args: Map<String, Value>,
    /// `--valid`
    pub(crate) valid: Option<Vec<GcAttachment>>,
}

/// Reads the arguments after the program's name, and environment variables by `variable`.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, OptionsError> {
    let mut parser = Parser::from_args(arguments);
    let (mut positional, mut valid) = (Vec::new(), None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("valid") => {
                let list = parser.value()?.string()?;
                valid = Some(serde_json::from_str(&list).map_err(OptionsError::Valid)?);
            }
            Positional(text) => positional.push(text.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let [verb, network, rest @ ..] = positional.as_slice() else {
        return Err(OptionsError::Usage("command and network are missing"));
    };
    let verb = verb_of(verb)?;
    let text = |name: &str, default: &str| match variable(name) {
        Some(value) => utf8(name, &value),
        None => Ok(default.to_owned()),
    };
    Ok(Command::Run(Box::new(Options {
        verb,
        network: network.clone(),
        netns: netns_of(verb, rest)?,
        path: path(variable("CNI_PATH").as_deref())?,
        net_dir: variable("NETCONFPATH")
            .filter(|dir| !dir.is_empty())
            .map_or_else(|| "/etc/cni/net.d".into(), PathBuf::from),
        ifname: text("CNI_IFNAME", "eth0")?,
        args: pairs(&text("CNI_ARGS", "")?)?,
        capability_args: capability_args(&text("CAP_ARGS", "")?)?,
        valid,
    })))
}

impl Options {
    /// Upstream's: `cnitool-` and 20 digits of the SHA-512 of the namespace's path. One namespace
    /// is one container.
    pub(crate) fn container_id(&self) -> String {
        format!("cnitool-{}", sha512_prefix(&self.netns, 20))
    }
}

fn verb_of(word: &str) -> Result<Verb, OptionsError> {
    match word {
        "add" => Ok(Verb::Add),
        "check" => Ok(Verb::Check),
        "del" => Ok(Verb::Del),
        "gc" => Ok(Verb::Gc),
        "status" => Ok(Verb::Status),
        other => Err(OptionsError::UnknownCommand(other.to_owned())),
    }
}

fn netns_of(verb: Verb, arguments: &[String]) -> Result<String, OptionsError> {
    match arguments {
        [] if matches!(verb, Verb::Gc | Verb::Status) => Ok(String::new()),
        [netns] => absolute(netns),
        [] => Err(OptionsError::Usage("the namespace is missing")),
        _ => Err(OptionsError::Usage("too many arguments")),
    }
}

/// Absolute and without `.` and `..`, as Go's filepath.Abs: the container id is made of this text.
fn absolute(netns: &str) -> Result<String, OptionsError> {
    let path = std::path::absolute(netns).map_err(|source| OptionsError::Netns {
        netns: netns.to_owned(),
        source,
    })?;
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    utf8("the namespace", clean.as_os_str())
}

fn path(path: Option<&OsStr>) -> Result<Vec<PathBuf>, OptionsError> {
    match path {
        Some(path) if !path.is_empty() => Ok(std::env::split_paths(path).collect()),
        _ => Err(OptionsError::NoPath),
    }
}

fn pairs(args: &str) -> Result<Vec<(String, String)>, OptionsError> {
    if args.is_empty() {
        return Ok(Vec::new());
    }
    args.split(';')
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(OptionsError::Args(pair.to_owned())),
        })
        .collect()
}

fn capability_args(json: &str) -> Result<Map<String, Value>, OptionsError> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(json).map_err(OptionsError::CapabilityArgs)
}

fn utf8(name: &str, value: &OsStr) -> Result<String, OptionsError> {
    match value.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(OptionsError::NotUtf8 {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Options, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let variable = |name: &str| {
            let of_name = variables.iter().find(|(key, _)| *key == name);
            of_name.map(|(_, value)| OsString::from(value))
        };
        match super::read(words, variable) {
            Ok(Command::Run(options)) => Ok(*options),
            Ok(Command::Help) => Err("help".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn arguments_and_variables_are_upstreams() {
        let options = read("add cbr0 /run/netns/a", &[("CNI_PATH", "/a:/b")]).unwrap();
        assert_eq!(options.verb, Verb::Add);
        assert_eq!(options.network, "cbr0");
        assert_eq!(options.path, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(options.net_dir, PathBuf::from("/etc/cni/net.d"));
        assert_eq!(options.ifname, "eth0");
        let options = read(
            "del cbr0 relative",
            &[
                ("CNI_PATH", "/a"),
                ("NETCONFPATH", "/net.d"),
                ("CNI_IFNAME", "net1"),
                ("CNI_ARGS", "A=1;B=2"),
                ("CAP_ARGS", r#"{"portMappings":[]}"#),
            ],
        )
        .unwrap();
        assert!(options.netns.starts_with('/') && options.netns.ends_with("/relative"));
        assert_eq!(
            options.args,
            [("A".into(), "1".into()), ("B".into(), "2".into())]
        );
        assert!(options.capability_args.contains_key("portMappings"));
        assert_eq!(options.ifname, "net1");
    }

    #[test]
    fn paths_of_one_namespace_are_equal() {
        for path in [
            "/run/netns/a",
            "/run//netns/./a/",
            "/run/x/../netns/a",
            "/../run/netns/a",
        ] {
            assert_eq!(absolute(path).unwrap(), "/run/netns/a");
        }
    }

    #[test]
    fn valid_attachments_are_read() {
        for valid in [
            r#"gc n --valid [{"containerID":"c","ifname":"eth0"}]"#,
            r#"--valid=[{"containerID":"c"}] gc n"#,
        ] {
            let options = read(valid, &[("CNI_PATH", "/a")]).unwrap();
            assert_eq!(options.valid.unwrap()[0].container_id, "c");
        }
        assert!(read("gc n", &[("CNI_PATH", "/a")]).unwrap().valid.is_none());
    }

    #[test]
    fn errors_name_the_cause() {
        let path = ("CNI_PATH", "/a");
        for (line, variables, message) in [
            ("", &[path][..], "command and network are missing"),
            ("add n", &[path], "the namespace is missing"),
            ("add n a b", &[path], "too many arguments"),
            ("ADD n a", &[path], "unknown command \"ADD\""),
            ("add n a --fast", &[path], "invalid option '--fast'"),
            (
                "gc n --valid",
                &[path],
                "missing argument for option '--valid'",
            ),
            ("gc n --valid x", &[path], "--valid: "),
            ("add n a", &[], "CNI_PATH is not set"),
            (
                "add n a",
                &[path, ("CNI_ARGS", "A=1;")],
                "invalid CNI_ARGS pair \"\"",
            ),
            (
                "add n a",
                &[path, ("CNI_ARGS", "A=1=2")],
                "invalid CNI_ARGS pair",
            ),
            (
                "add n a",
                &[path, ("CAP_ARGS", "[]")],
                "CAP_ARGS is not a JSON object",
            ),
        ] {
            let error = read(line, variables).unwrap_err();
            assert!(error.starts_with(message), "{line}: {error}");
        }
    }

    #[test]
    fn container_id_is_upstreams() {
        // printf /run/netns/a | sha512sum
        let options = read("add n /run/netns/a", &[("CNI_PATH", "/a")]).unwrap();
        assert_eq!(options.container_id(), "cnitool-a145bc1ace582bff43bd");
    }
}
