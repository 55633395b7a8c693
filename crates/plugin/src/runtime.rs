//! The runtime's side (upstream: libcni): conf lists, chains with prevResult passed on, the result cache, attachments for GC.
use cni_conf::{AddResult, Attachment, Error, conf_list::ConfList};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// One attachment to make, check or take away.
#[derive(Debug, Clone, Default)]
pub struct RuntimeConf {
    /// CNI_CONTAINERID
    pub container_id: String,
    /// CNI_NETNS, "" at a second DEL
    pub netns: String,
    /// CNI_IFNAME
    pub ifname: String,
    /// CNI_ARGS
    pub args: Vec<(String, String)>,
    /// capability arguments, given to plugins that declare them
    pub capability_args: Map<String, Value>,
}

/// A runtime: where plugins are, where results are kept (upstream: /var/lib/cni/results via cache dir /var/lib/cni).
#[derive(Debug, Clone)]
pub struct Runtime {
    /// CNI_PATH
    pub path: Vec<PathBuf>,
    /// folder that holds `results/`
    pub cache_dir: PathBuf,
}

impl Runtime {
    /// Finds the conf list called `name` in `dir` (files in lexical order; .conflist, then .conf, .json), as cnitool does.
    pub fn load(_dir: &std::path::Path, _name: &str) -> Result<ConfList, Error> {
        todo!()
    }
    /// ADD of the chain; the last result is cached; on failure nothing is rolled back (as libcni).
    pub fn add(&self, _list: &ConfList, _rc: &RuntimeConf) -> Result<AddResult, Error> {
        todo!()
    }
    /// CHECK of the chain with the cached result.
    pub fn check(&self, _list: &ConfList, _rc: &RuntimeConf) -> Result<(), Error> {
        todo!()
    }
    /// DEL of the chain in reverse, with the cached result where the version (>= 0.4.0) has it.
    pub fn del(&self, _list: &ConfList, _rc: &RuntimeConf) -> Result<(), Error> {
        todo!()
    }
    /// GC: DEL for each cached attachment that is not in `valid`, then GC of each plugin.
    pub fn gc(&self, _list: &ConfList, _valid: &[Attachment]) -> Result<(), Error> {
        todo!()
    }
    /// STATUS of each plugin, the first error ends it.
    pub fn status(&self, _list: &ConfList) -> Result<(), Error> {
        todo!()
    }
    /// Attachments in the cache for a network.
    pub fn cached_attachments(&self, _network: &str) -> Result<Vec<Attachment>, Error> {
        todo!()
    }
}
