//! The runtime's side of CNI (upstream: libcni): configuration lists, chains of plugins with
//! prevResult, the result cache, GC. Plugins are executed, as by every runtime.

mod cache;
mod conf_list;
pub mod fuzz;
mod load;
mod runtime_conf;

use cache::Cache;
use cni_conf::{AddResult, Code, Error, GcAttachment, Version, ids};
use go_compat::json;
use plugin::{Environment, Verb, execute, search};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

pub use conf_list::ConfList;
pub use runtime_conf::RuntimeConf;

/// Runs the verbs of a network.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Folders of the plugins.
    pub path: Vec<PathBuf>,
    /// Folder that holds `results/`; libcni's is /var/lib/cni.
    pub cache_dir: PathBuf,
}

/// What [`Runtime::status`] found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Every plugin says that the next ADD can work.
    Ready,
    /// Plugins of this version cannot tell; they exist and support the version.
    TooOld(Version),
}

/// A plugin's answer to VERSION.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Versions {
    supported_versions: Vec<String>,
}

impl Runtime {
    /// Finds the configuration list called `name` in `dir` as cnitool does: files in lexical order,
    /// .conflist before .conf and .json. A file that cannot be read is skipped; the error names it
    /// if no list is found.
    pub fn load(dir: &Path, name: &str) -> Result<ConfList, Error> {
        load::load(dir, name)
    }

    /// ADD of each plugin; caches the last result. As libcni, does not undo anything after a
    /// failure.
    pub fn add(&self, list: &ConfList, rc: &RuntimeConf) -> Result<AddResult, Error> {
        check_names(list, rc)?;
        let version = version(list)?;
        let mut last = AddResult::default();
        let mut previous = None;
        for index in 0..list.plugins.len() {
            let config = list.plugin_config(index, &rc.capability_args, previous.as_ref());
            let failed = |error: Error| error.context(describe(list, index, "add"));
            let stdout = self
                .run(list, index, Verb::Add, rc, &config)
                .map_err(failed)?;
            last = AddResult::parse(&stdout, version).map_err(failed)?;
            previous = Some(last.to_value(version).map_err(failed)?);
        }
        let result = previous.unwrap_or(Value::Null);
        self.cache().write(list, rc, &result).map_err(|error| {
            error.context(format!(
                "failed to set network {:?} cached result",
                list.name
            ))
        })?;
        Ok(last)
    }

    /// CHECK of each plugin with the cached result.
    pub fn check(&self, list: &ConfList, rc: &RuntimeConf) -> Result<(), Error> {
        check_names(list, rc)?;
        let version = version(list)?;
        if version < Version::V0_4_0 {
            return Err(Error::internal(format!(
                "configuration version {:?} does not support CHECK",
                list.cni_version
            )));
        }
        if list.disable_check {
            return Ok(());
        }
        let cached = self.cache().result(list, rc, version).map_err(|error| {
            error.context(format!(
                "failed to get network {:?} cached result",
                list.name
            ))
        })?;
        for index in 0..list.plugins.len() {
            let config = list.plugin_config(index, &rc.capability_args, cached.as_ref());
            self.run(list, index, Verb::Check, rc, &config)?;
        }
        Ok(())
    }

    /// DEL of each plugin in reverse order, from version 0.4.0 on with the cached result. A damaged
    /// cached result counts as absent: DEL never depends on it.
    pub fn del(&self, list: &ConfList, rc: &RuntimeConf) -> Result<(), Error> {
        check_names(list, rc)?;
        let version = version(list)?;
        let cached = match version >= Version::V0_4_0 {
            true => self.cache().result(list, rc, version).unwrap_or(None),
            false => None,
        };
        for index in (0..list.plugins.len()).rev() {
            let config = list.plugin_config(index, &rc.capability_args, cached.as_ref());
            self.run(list, index, Verb::Del, rc, &config)
                .map_err(|error| error.context(describe(list, index, "delete")))?;
        }
        self.cache().remove(list, rc)
    }

    /// DEL of each cached attachment that is not in `valid`, then, from version 1.1.0 on, GC of
    /// each plugin. Without a list, every cached attachment is removed and plugins get none. Goes
    /// on after an error and returns all of them.
    pub fn gc(&self, list: &ConfList, valid: Option<&[GcAttachment]>) -> Result<(), Error> {
        ids::check_network_name(&list.name)?;
        if list.disable_gc {
            return Ok(());
        }
        let mut errors = self.delete_stale(list, valid)?;
        if version(list)? >= Version::V1_1_0 {
            for index in 0..list.plugins.len() {
                let config = gc_config(list, index, valid);
                let none = RuntimeConf::default();
                if let Err(error) = self.run(list, index, Verb::Gc, &none, &config) {
                    let plugin_type = plugin_type(list, index);
                    errors.push(error.context(format!("failed to GC plugin {plugin_type}")));
                }
            }
        }
        joined(errors)
    }

    /// The errors of the single DELs.
    fn delete_stale(
        &self,
        list: &ConfList,
        valid: Option<&[GcAttachment]>,
    ) -> Result<Vec<Error>, Error> {
        let mut errors = Vec::new();
        for entry in self.cache().entries(&list.name)? {
            if valid.is_some_and(|valid| valid.contains(&entry.attachment())) {
                continue;
            }
            if let Err(error) = self.del(list, &entry.runtime_conf()) {
                errors.push(error.context(format!(
                    "failed to delete stale attachment {} {}",
                    entry.container_id, entry.ifname
                )));
            }
        }
        Ok(errors)
    }

    /// STATUS of each plugin up to the first error. Before version 1.1.0 plugins cannot be asked:
    /// then each must exist and support the version.
    pub fn status(&self, list: &ConfList) -> Result<Status, Error> {
        ids::check_network_name(&list.name)?;
        let version = version(list)?;
        if version < Version::V1_1_0 {
            for index in 0..list.plugins.len() {
                self.check_support(list, index, version)?;
            }
            return Ok(Status::TooOld(version));
        }
        for index in 0..list.plugins.len() {
            let config = list.plugin_config(index, &Map::new(), None);
            self.run(list, index, Verb::Status, &RuntimeConf::default(), &config)?;
        }
        Ok(Status::Ready)
    }

    /// Code 1 for a plugin that does not support the version.
    fn check_support(&self, list: &ConfList, index: usize, version: Version) -> Result<(), Error> {
        let config = list.plugin_config(index, &Map::new(), None);
        let stdout = self.run(list, index, Verb::Version, &RuntimeConf::default(), &config)?;
        let answer: Versions = json::from_slice(&stdout).unwrap_or_default();
        let supported = answer.supported_versions;
        if supported.iter().any(|text| text == version.as_str()) {
            return Ok(());
        }
        let (plugin, version) = (plugin_type(list, index), version.as_str());
        let text = format!("plugin {plugin:?} does not support cniVersion {version}");
        let details = format!("it supports {}", supported.join(", "));
        Err(Error::new(Code::IncompatibleVersion, text).details(details))
    }

    fn cache(&self) -> Cache {
        Cache {
            dir: self.cache_dir.join("results"),
        }
    }

    fn run(
        &self,
        list: &ConfList,
        index: usize,
        verb: Verb,
        rc: &RuntimeConf,
        config: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let file = search::find(plugin_type(list, index), &self.path)?;
        let path = std::env::join_paths(&self.path)
            .map_err(|error| Error::new(Code::InvalidEnvironment, format!("CNI_PATH: {error}")))?;
        let args: Vec<_> = rc
            .args
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let environment = Environment {
            command: verb.as_str().to_owned(),
            container_id: rc.container_id.clone(),
            netns: rc.netns.clone(),
            ifname: rc.ifname.clone(),
            args: args.join(";"),
            path,
            netns_override: std::env::var("CNI_NETNS_OVERRIDE").unwrap_or_default(),
            depth: 0,
        };
        Ok(execute::execute(&file, &environment.variables(), config)?)
    }
}

/// Code 1 for a version that is not released.
fn version(list: &ConfList) -> Result<Version, Error> {
    cni_conf::version::negotiate(&list.cni_version, Version::ALL)
}

/// Checked first: the names become file names and environment variables.
fn check_names(list: &ConfList, rc: &RuntimeConf) -> Result<(), Error> {
    ids::check_container_id(&rc.container_id)?;
    ids::check_network_name(&list.name)?;
    ids::check_interface_name(&rc.ifname)
}

fn plugin_type(list: &ConfList, index: usize) -> &str {
    let plugin = list.plugins.get(index);
    plugin
        .and_then(|plugin| plugin.get("type")?.as_str())
        .unwrap_or_default()
}

fn describe(list: &ConfList, index: usize, what: &str) -> String {
    format!("plugin type={:?} failed ({what})", plugin_type(list, index))
}

/// The configuration of a plugin with the list, under the key of the spec and the older one.
fn gc_config(list: &ConfList, index: usize, valid: Option<&[GcAttachment]>) -> Vec<u8> {
    let mut list = list.clone();
    if let (Some(plugin), Some(valid)) = (list.plugins.get_mut(index), valid) {
        let valid = serde_json::json!(valid);
        plugin.insert("cni.dev/valid-attachments".into(), valid.clone());
        plugin.insert("cni.dev/attachments".into(), valid);
    }
    list.plugin_config(index, &Map::new(), None)
}

/// One error with the code of the first and the messages of all, one a line.
fn joined(errors: Vec<Error>) -> Result<(), Error> {
    let messages: Vec<_> = errors.iter().map(Error::to_string).collect();
    match errors.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error {
            msg: messages.join("\n"),
            details: String::new(),
            ..first
        }),
    }
}
