//! The interface between a plugin and its frame: the verbs that it implements and the call that
//! each of them gets. Both are in one module because a call names the plugins it can delegate to.

use crate::{Attachment, Environment, Verb, version_gate};
use cni_conf::{AddResult, Code, Error, NetConf, Version, args, net_conf};
use go_compat::json::{self, Document};
use std::path::PathBuf;

/// A CNI plugin. Verbs never touch stdout or the environment.
pub trait Plugin: Sync {
    /// Name of its executable.
    fn name(&self) -> &'static str;
    /// First line of the answer without CNI_COMMAND, `CNI bridge plugin v0.1.0`.
    fn about(&self) -> String {
        format!("CNI {} plugin v{}", self.name(), env!("CARGO_PKG_VERSION"))
    }

    /// Supported spec versions, oldest first.
    fn versions(&self) -> &'static [Version] {
        Version::ALL
    }

    /// ADD
    fn add(&self, call: &Call) -> Result<AddOutput, Error>;
    /// CHECK
    fn check(&self, call: &Call) -> Result<(), Error>;
    /// DEL
    fn del(&self, call: &Call) -> Result<(), Error>;
    /// GC: removes what no attachment of [`Call::valid_attachments`] owns; nothing without a list.
    fn gc(&self, call: &Call) -> Result<(), Error>;
    /// STATUS: Ok means that the next ADD can work.
    fn status(&self, call: &Call) -> Result<(), Error>;
}

impl std::fmt::Debug for dyn Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The plugins of this executable.
pub type Registry = &'static [&'static dyn Plugin];

/// What ADD prints.
#[derive(Debug, Clone, PartialEq)]
pub enum AddOutput {
    /// A result, converted to the version of the configuration.
    Result(AddResult),
    /// The stdout of a delegate, printed unchanged.
    Raw(Vec<u8>),
}

/// One call of a plugin, checked.
#[derive(Debug, Clone)]
pub struct Call {
    pub(crate) verb: Verb,
    /// CNI_CONTAINERID, "" for verbs without a container.
    pub container_id: String,
    /// CNI_NETNS, "" if there is none.
    pub netns: String,
    /// The cookie of that namespace, if the plugin that delegates in this process knows it.
    pub netns_cookie: Option<u64>,
    /// CNI_IFNAME, "" for verbs without a container.
    pub ifname: String,
    /// The folders of CNI_PATH.
    pub(crate) path: Vec<PathBuf>,
    /// stdin, as given.
    pub(crate) config: Vec<u8>,
    /// The common keys of the configuration.
    pub net: NetConf,
    pub(crate) registry: Registry,
    pub(crate) environment: Environment,
    document: Document,
}

impl Call {
    /// Checks environment, configuration, verb and version in skel's order and with its codes
    /// (4, 6, 7, 4, 1). `supported` are the versions of the plugin that is called.
    pub(crate) fn new(
        environment: Environment,
        config: Vec<u8>,
        supported: &[Version],
        registry: Registry,
    ) -> Result<Call, Error> {
        environment.check()?;
        let document = net_conf::parse(&config)?;
        let Some(verb) = environment.verb() else {
            return Err(unknown_verb(&environment.command, &document));
        };
        version_gate::check(verb, &document, supported)?;
        let net = match verb {
            Verb::Del => NetConf::read_for_del(&document, supported)?,
            Verb::Add | Verb::Check => NetConf::read(&document, supported, true)?,
            Verb::Gc | Verb::Status | Verb::Version => NetConf::read(&document, supported, false)?,
        };
        let of_container = |value: &str| match verb.names_container() {
            true => value.to_owned(),
            false => String::new(),
        };
        Ok(Call {
            verb,
            container_id: of_container(&environment.container_id),
            netns: of_container(&environment.netns),
            netns_cookie: None,
            ifname: of_container(&environment.ifname),
            path: environment.path(),
            config,
            net,
            registry,
            environment,
            document,
        })
    }

    /// The keys of the plugin itself. Code 6 with upstream's `failed to load netconf: ...`.
    pub fn conf<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        self.decode()
            .map_err(|error| Error::new(Code::Decode, format!("failed to load netconf: {error}")))
    }

    /// The keys of the plugin itself, for a plugin with errors of its own. For DEL, a key with a
    /// value of the wrong type counts as absent.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, json::Error> {
        match self.verb {
            Verb::Del => self.document.decode_what_fits(),
            _ => self.document.decode(),
        }
    }

    /// The parsed configuration.
    pub fn document(&self) -> &Document {
        &self.document
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

    /// The values of the `known` keys of CNI_ARGS.
    pub fn args(&self, known: &[&str]) -> Result<Vec<Option<String>>, Error> {
        args::load(&self.environment.args, known)
    }

    /// The same call without a namespace, as a runtime makes it when the namespace is gone.
    pub(crate) fn without_netns(&self) -> Call {
        let mut call = self.clone();
        call.netns.clear();
        call.environment.netns.clear();
        call
    }

    /// The environment of a delegate of this call.
    pub(crate) fn delegate_environment(&self, verb: Verb) -> Environment {
        Environment {
            command: verb.as_str().to_owned(),
            depth: self.environment.depth.saturating_add(1),
            ..self.environment.clone()
        }
    }
}

/// skel checks the configuration before the verb: an error of the former comes first.
fn unknown_verb(command: &str, document: &Document) -> Error {
    match NetConf::read(document, Version::ALL, false) {
        Err(error) if error.code != Code::IncompatibleVersion as u32 => error,
        _ => Error::new(
            Code::InvalidEnvironment,
            format!("unknown CNI_COMMAND: {command}"),
        ),
    }
}
