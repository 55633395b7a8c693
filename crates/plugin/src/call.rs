//! One call of a plugin: its environment and its configuration, checked.
use crate::delegate::Registry;
use cni_conf::{AddResult, Error, NetConf, args};
use std::path::PathBuf;

/// What CNI_COMMAND asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
    Version,
}

/// A checked call. Cheap to clone for a delegate.
#[derive(Debug, Clone)]
pub struct Call {
    /// CNI_COMMAND
    pub verb: Verb,
    /// CNI_CONTAINERID, checked; "" where the verb has none
    pub container_id: String,
    /// CNI_NETNS; "" where there is none
    pub netns: String,
    /// CNI_IFNAME, checked
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
}

impl Call {
    /// The plugin's own keys, as Go reads them. Err: code 6 in upstream's wording `failed to load netconf: ...`.
    pub fn conf<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        todo!()
    }
    /// prevResult, or `Required prevResult missing`.
    pub fn prev_result(&self) -> Result<&AddResult, Error> {
        todo!()
    }
    /// Known CNI_ARGS keys.
    pub fn args(&self, known: &[&str]) -> Result<Vec<Option<String>>, Error> {
        args::load(&self.args, known)
    }
}
