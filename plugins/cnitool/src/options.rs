//! The command line and the variables, by the names that people know from upstream's cnitool.
use cni_conf::{Code, Error, GcAttachment};
use plugin::hash::sha512_prefix;
use serde_json::{Map, Value};
use std::{
    ffi::{OsStr, OsString},
    path::{Component, PathBuf},
};

const USAGE: &str =
    "usage: cnitool add|check|del|gc|status NETWORK NETNS   (cnitool --help tells more)";

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// makes the attachment
    Add,
    /// checks it
    Check,
    /// takes it away
    Del,
    /// takes away what nobody owns
    Gc,
    /// tells whether ADD can work
    Status,
}

/// All that was said, made sense of.
#[derive(Debug)]
pub struct Options {
    /// first word
    pub verb: Verb,
    /// second word
    pub network: String,
    /// third word, absolute; "" where the verb needs none
    pub netns: String,
    /// CNI_PATH, split
    pub path: Vec<PathBuf>,
    /// NETCONFPATH
    pub net_dir: PathBuf,
    /// CNI_IFNAME
    pub ifname: String,
    /// CNI_ARGS
    pub args: Vec<(String, String)>,
    /// CAP_ARGS
    pub capability_args: Map<String, Value>,
    /// --valid
    pub valid: Option<Vec<GcAttachment>>,
}

impl Options {
    /// From the words after the program's name and a look-up of variables.
    pub fn read(
        words: &[OsString],
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Options, Error> {
        let words = texts(words)?;
        let (words, valid) = take_valid(words)?;
        let [verb, network, rest @ ..] = words.as_slice() else {
            return Err(usage("a command and a network are needed"));
        };
        let verb = verb_of(verb)?;
        let netns = match rest {
            [] if matches!(verb, Verb::Gc | Verb::Status) => String::new(),
            [netns] => absolute(netns)?,
            [] => return Err(usage("a namespace is needed")),
            _ => return Err(usage("too many words")),
        };
        let text = |name: &str| -> Result<Option<String>, Error> {
            variable(name)
                .map(|value| as_text(name, &value))
                .transpose()
        };
        Ok(Options {
            verb,
            network: network.clone(),
            netns,
            path: path(variable("CNI_PATH").as_deref())?,
            net_dir: variable("NETCONFPATH")
                .filter(|dir| !dir.is_empty())
                .map_or_else(|| "/etc/cni/net.d".into(), PathBuf::from),
            ifname: text("CNI_IFNAME")?.unwrap_or_else(|| "eth0".into()),
            args: pairs(&text("CNI_ARGS")?.unwrap_or_default())?,
            capability_args: capabilities(&text("CAP_ARGS")?.unwrap_or_default())?,
            valid,
        })
    }
}

/// `cnitool-` and the first ten bytes of the SHA-512 of the namespace's path: the same namespace is
/// the same container.
pub fn container_id(netns: &str) -> String {
    format!("cnitool-{}", sha512_prefix(netns, 20))
}

fn verb_of(word: &str) -> Result<Verb, Error> {
    match word {
        "add" => Ok(Verb::Add),
        "check" => Ok(Verb::Check),
        "del" => Ok(Verb::Del),
        "gc" => Ok(Verb::Gc),
        "status" => Ok(Verb::Status),
        other => Err(usage(&format!("{other:?} is no command"))),
    }
}

/// `--valid JSON` anywhere on the line.
fn take_valid(mut words: Vec<String>) -> Result<(Vec<String>, Option<Vec<GcAttachment>>), Error> {
    let Some(at) = words.iter().position(|word| word == "--valid") else {
        return match words.iter().find(|word| word.starts_with('-')) {
            Some(word) => Err(usage(&format!("{word} is no option"))),
            None => Ok((words, None)),
        };
    };
    words.remove(at);
    if at >= words.len() {
        return Err(usage("--valid needs a JSON list"));
    }
    let valid = serde_json::from_str(&words.remove(at)).map_err(|error| {
        bad(format!(
            "--valid: {error}; it looks like [{{\"containerID\":\"c1\",\"ifname\":\"eth0\"}}]"
        ))
    })?;
    Ok((words, Some(valid)))
}

/// Absolute and without `.` and `..`, word by word as Go cleans it: the container's id is made of
/// this text.
fn absolute(netns: &str) -> Result<String, Error> {
    let path = std::path::absolute(netns).map_err(|error| bad(format!("{netns:?}: {error}")))?;
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    as_text("the namespace", clean.as_os_str())
}

fn path(path: Option<&OsStr>) -> Result<Vec<PathBuf>, Error> {
    match path {
        Some(path) if !path.is_empty() => Ok(std::env::split_paths(path).collect()),
        _ => Err(bad(
            "CNI_PATH is not set: name the folders with plugins, such as CNI_PATH=/opt/cni/bin"
                .into(),
        )),
    }
}

fn pairs(args: &str) -> Result<Vec<(String, String)>, Error> {
    if args.is_empty() {
        return Ok(Vec::new());
    }
    args.split(';')
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(bad(format!("invalid CNI_ARGS pair {pair:?}"))),
        })
        .collect()
}

fn capabilities(json: &str) -> Result<Map<String, Value>, Error> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(json).map_err(|error| bad(format!("CAP_ARGS is no JSON object: {error}")))
}

fn texts(words: &[OsString]) -> Result<Vec<String>, Error> {
    words.iter().map(|word| as_text("argument", word)).collect()
}

fn as_text(name: &str, value: &OsStr) -> Result<String, Error> {
    (value.to_str().map(str::to_owned)).ok_or_else(|| bad(format!("{name} {value:?} is no UTF-8")))
}

fn bad(msg: String) -> Error {
    Error::new(Code::InvalidEnvironment, msg)
}

fn usage(why: &str) -> Error {
    bad(format!("{why}\n{USAGE}"))
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
        Options::read(&words, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn as_people_know_it() {
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
    fn one_namespace_is_one_container() {
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
    fn who_stays() {
        let valid = r#"gc n --valid [{"containerID":"c","ifname":"eth0"}]"#;
        let options = read(valid, &[("CNI_PATH", "/a")]).unwrap();
        assert_eq!(options.valid.unwrap()[0].container_id, "c");
        assert!(read("gc n", &[("CNI_PATH", "/a")]).unwrap().valid.is_none());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let path = ("CNI_PATH", "/a");
        for (line, variables, message) in [
            ("", &[path][..], "a command and a network are needed"),
            ("add n", &[path], "a namespace is needed"),
            ("add n a b", &[path], "too many words"),
            ("ADD n a", &[path], "\"ADD\" is no command"),
            ("add n a --fast", &[path], "--fast is no option"),
            ("gc n --valid", &[path], "--valid needs a JSON list"),
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
                "CAP_ARGS is no JSON object",
            ),
        ] {
            let error = read(line, variables).unwrap_err();
            assert!(error.starts_with(message), "{line}: {error}");
        }
    }

    #[test]
    fn the_id_is_upstreams() {
        // printf /run/netns/a | sha512sum
        assert_eq!(container_id("/run/netns/a"), "cnitool-a145bc1ace582bff43bd");
    }
}
