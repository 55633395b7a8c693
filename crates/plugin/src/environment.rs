//! The environment variables of a call (CNI spec 1.1, section 2 "Parameters"), with the checks and
//! messages of upstream's skel.

use cni_conf::{Code, Error, ids};
use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// How many plugins have delegated to this one. Only our plugins set it; others pass it on, as they
/// do with all variables that they do not know.
pub(crate) const DEPTH: &str = "CNI_DELEGATION_DEPTH";

/// CNI_COMMAND
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Creates an attachment.
    Add,
    /// Checks that an attachment is as ADD left it.
    Check,
    /// Removes an attachment.
    Del,
    /// Removes what no valid attachment owns.
    Gc,
    /// Reports whether the next ADD can work.
    Status,
    /// Reports the spec versions that the plugin supports.
    Version,
}

impl Verb {
    /// As CNI_COMMAND spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Del => "DEL",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }

    /// None unless the text is exactly one of the six words.
    pub(crate) fn parse(text: &str) -> Option<Verb> {
        use Verb::{Add, Check, Del, Gc, Status, Version};
        [Add, Check, Del, Gc, Status, Version]
            .into_iter()
            .find(|verb| verb.as_str() == text)
    }

    /// True for the verbs of one container.
    pub(crate) fn names_container(self) -> bool {
        matches!(self, Verb::Add | Verb::Check | Verb::Del)
    }
}

/// The variables as given; "" for one that is unset: as upstream, both are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// CNI_COMMAND
    pub command: String,
    /// CNI_CONTAINERID
    pub container_id: String,
    /// CNI_NETNS
    pub netns: String,
    /// CNI_IFNAME
    pub ifname: String,
    /// CNI_ARGS
    pub args: String,
    /// CNI_PATH, not split.
    pub path: OsString,
    /// CNI_NETNS_OVERRIDE
    pub netns_override: String,
    /// CNI_DELEGATION_DEPTH; 0 if it is unset or not a number.
    pub depth: u32,
}

impl Environment {
    /// Of this process. Invalid UTF-8 is replaced; where it matters, the checks refuse the value.
    pub(crate) fn of_process() -> Self {
        let raw = |name| std::env::var_os(name).unwrap_or_default();
        let text = |name| raw(name).to_string_lossy().into_owned();
        Environment {
            command: text("CNI_COMMAND"),
            container_id: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS"),
            ifname: text("CNI_IFNAME"),
            args: text("CNI_ARGS"),
            path: raw("CNI_PATH"),
            netns_override: text("CNI_NETNS_OVERRIDE"),
            depth: text(DEPTH).parse().unwrap_or(0),
        }
    }

    pub(crate) fn verb(&self) -> Option<Verb> {
        Verb::parse(&self.command)
    }

    /// Checks in skel's order: the first malformed variable is the error, then all missing ones
    /// together. An unknown verb requires nothing: its configuration is checked first.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let verb = self.verb();
        let needed = verb.is_some_and(|verb| verb != Verb::Version);
        let container = verb.is_some_and(Verb::names_container);
        let netns = matches!(verb, Some(Verb::Add | Verb::Check));
        let mut missing = Vec::new();
        if self.command.is_empty() {
            missing.push("CNI_COMMAND");
        }
        if container && self.container_id.is_empty() {
            missing.push("CNI_CONTAINERID");
        } else if container {
            ids::check_container_id(&self.container_id)?;
            if verb == Some(Verb::Add) {
                ids::check_container_id_length(&self.container_id)?;
            }
        }
        if netns && self.netns.is_empty() {
            missing.push("CNI_NETNS");
        }
        if container && self.ifname.is_empty() {
            missing.push("CNI_IFNAME");
        } else if container {
            ids::check_interface_name(&self.ifname)?;
        }
        if needed && self.path.is_empty() {
            missing.push("CNI_PATH");
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Code::InvalidEnvironment,
            format!("required env variables [{}] missing", missing.join(",")),
        ))
    }

    /// True if CNI_NETNS_OVERRIDE allows the plugin to work on its own namespace.
    pub(crate) fn overrides_netns(&self) -> bool {
        self.netns_override == "1" || self.netns_override.eq_ignore_ascii_case("TRUE")
    }

    /// The folders of CNI_PATH, as Go's filepath.SplitList: none for an empty text.
    pub(crate) fn path(&self) -> Vec<PathBuf> {
        if self.path.is_empty() {
            return Vec::new();
        }
        std::env::split_paths(&self.path).collect()
    }

    /// Name and value of each, for a plugin that is executed. Empty ones are included: a plugin
    /// must not inherit them.
    pub fn variables(&self) -> [(&'static str, &OsStr); 7] {
        [
            ("CNI_COMMAND", OsStr::new(&self.command)),
            ("CNI_CONTAINERID", OsStr::new(&self.container_id)),
            ("CNI_NETNS", OsStr::new(&self.netns)),
            ("CNI_IFNAME", OsStr::new(&self.ifname)),
            ("CNI_ARGS", OsStr::new(&self.args)),
            ("CNI_PATH", &self.path),
            ("CNI_NETNS_OVERRIDE", OsStr::new(&self.netns_override)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(verb: &str) -> Environment {
        Environment {
            command: verb.into(),
            container_id: "c1".into(),
            netns: "/run/netns/c1".into(),
            ifname: "eth0".into(),
            path: "/opt/cni/bin".into(),
            ..Environment::default()
        }
    }

    #[test]
    fn each_verb_requires_its_variables() {
        for (verb, missing) in [
            ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
            ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
            ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
            ("GC", "CNI_PATH"),
            ("STATUS", "CNI_PATH"),
            ("", "CNI_COMMAND"),
        ] {
            let bare = Environment {
                command: verb.into(),
                ..Environment::default()
            };
            let error = bare.check().unwrap_err();
            assert_eq!(error.code, 4, "{verb}");
            assert_eq!(
                error.msg,
                format!("required env variables [{missing}] missing")
            );
        }
        for verb in ["VERSION", "add", "ADDITION"] {
            let bare = Environment {
                command: verb.into(),
                ..Environment::default()
            };
            assert_eq!(bare.check(), Ok(()), "{verb}");
        }
    }

    #[test]
    fn malformed_id_is_reported_before_missing_variables() {
        let mut env = good("ADD");
        env.container_id = "../c1".into();
        env.path = OsString::new();
        let error = env.check().unwrap_err();
        assert_eq!(error.msg, "invalid characters in containerID");
        assert_eq!(error.details, "../c1");
    }

    #[test]
    fn only_add_limits_the_length_of_an_id() {
        for (verb, refused) in [("ADD", true), ("CHECK", false), ("DEL", false)] {
            let mut env = good(verb);
            env.container_id = "a".repeat(4096);
            assert_eq!(env.check(), Ok(()));
            env.container_id.push('a');
            let code = env.check().err().map(|error| error.code);
            assert_eq!(code, refused.then_some(4), "{verb}");
        }
    }

    #[test]
    fn verbs_without_a_container_ignore_its_variables() {
        for verb in ["GC", "STATUS", "VERSION"] {
            let mut env = good(verb);
            env.container_id = "../c1".into();
            env.ifname = "a/b".into();
            assert_eq!(env.check(), Ok(()));
        }
    }
}
