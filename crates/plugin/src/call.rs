//! One call of a plugin: its environment and its configuration, checked.
use crate::{Attachment, Verb, delegate::Registry, environment::Environment, version_gate};
use cni_conf::{AddResult, Code, Error, NetConf, Version, args};
use go_compat::json;
use std::path::PathBuf;

/// A checked call.
#[derive(Debug, Clone)]
pub struct Call {
    /// CNI_COMMAND
    pub verb: Verb,
    /// CNI_CONTAINERID, checked; "" where the verb has none
    pub container_id: String,
    /// CNI_NETNS; "" where there is none
    pub netns: String,
    /// CNI_IFNAME, checked; "" where the verb has none
    pub ifname: String,
    /// CNI_ARGS as given
    pub args: String,
    /// CNI_PATH, split
    pub path: Vec<PathBuf>,
    /// CNI_NETNS_OVERRIDE is TRUE or 1
    pub netns_override: bool,
    /// stdin, as given
    pub config: Vec<u8>,
    /// its common part
    pub net: NetConf,
    /// the plugins that this executable holds, for delegation in process
    pub registry: Registry,
    environment: Environment,
}

impl Call {
    /// Checks what a plugin's process checks before it works: environment, configuration, verb,
    /// version, in skel's order and with its codes (4, 6, 7, 4, 1). `supported` are the versions of
    /// the plugin that is called.
    pub fn new(
        environment: Environment,
        config: Vec<u8>,
        supported: &[Version],
        registry: Registry,
    ) -> Result<Call, Error> {
        environment.check()?;
        let Some(verb) = environment.verb() else {
            return Err(unknown_verb(&environment.command, &config));
        };
        version_gate::check(verb, &config, supported)?;
        let prev_result_needed = matches!(verb, Verb::Add | Verb::Check);
        let net = NetConf::parse(&config, supported, prev_result_needed)?;
        let of_container = |value: &str| match verb.names_container() {
            true => value.to_owned(),
            false => String::new(),
        };
        Ok(Call {
            verb,
            container_id: of_container(&environment.container_id),
            netns: of_container(&environment.netns),
            ifname: of_container(&environment.ifname),
            args: environment.args.clone(),
            path: split_path(&environment.path),
            netns_override: environment.overrides_netns(),
            config,
            net,
            registry,
            environment,
        })
    }

    /// The plugin's own keys, as Go reads them. Err: code 6 in upstream's wording `failed to load
    /// netconf: ...`.
    pub fn conf<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        json::from_slice(&self.config)
            .map_err(|error| Error::new(Code::Decode, format!("failed to load netconf: {error}")))
    }

    /// The attachment that ADD, CHECK and DEL are about.
    pub fn attachment(&self) -> Attachment {
        Attachment::new(&self.net.name, &self.container_id, &self.ifname)
    }

    /// The attachments that GC leaves; None if the runtime did not list them.
    pub fn valid_attachments(&self) -> Option<Vec<Attachment>> {
        let valid = self.net.valid_attachments.as_ref()?;
        let in_network = |one| Attachment::of_gc(&self.net.name, one);
        Some(valid.iter().map(in_network).collect())
    }

    /// prevResult, or `Required prevResult missing`.
    pub fn prev_result(&self) -> Result<&AddResult, Error> {
        (self.net.prev_result.as_ref())
            .ok_or_else(|| Error::internal("Required prevResult missing"))
    }

    /// Known CNI_ARGS keys.
    pub fn args(&self, known: &[&str]) -> Result<Vec<Option<String>>, Error> {
        args::load(&self.args, known)
    }

    /// The same call with no namespace, as a runtime makes it when the namespace is gone.
    pub(crate) fn without_netns(&self) -> Call {
        let mut call = self.clone();
        call.netns.clear();
        call.environment.netns.clear();
        call
    }

    /// The environment of a delegate: this call's with another verb.
    pub(crate) fn environment(&self, verb: Verb) -> Environment {
        Environment {
            command: verb.as_str().to_owned(),
            ..self.environment.clone()
        }
    }
}

/// skel reads and checks the configuration before it looks at the verb, so what is wrong with the
/// former comes first.
fn unknown_verb(command: &str, config: &[u8]) -> Error {
    match NetConf::parse(config, Version::ALL, false) {
        Err(error) if error.code != Code::IncompatibleVersion as u32 => error,
        _ => Error::new(
            Code::InvalidEnvironment,
            format!("unknown CNI_COMMAND: {command}"),
        ),
    }
}

/// CNI_PATH as Go's filepath.SplitList: nothing in it gives no folder.
pub(crate) fn split_path(path: &std::ffi::OsStr) -> Vec<PathBuf> {
    if path.is_empty() {
        return Vec::new();
    }
    std::env::split_paths(path).collect()
}
