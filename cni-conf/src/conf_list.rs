//! Conf lists: what a runtime reads from /etc/cni/net.d (CNI spec section 1), and one plugin's configuration derived from it.
use crate::Error;
use serde_json::{Map, Value};

/// A conf list; unknown keys are kept in `plugins`.
#[derive(Debug, Clone)]
pub struct ConfList {
    /// `cniVersion`, "" is 0.1.0; with `cniVersions` the newest that we support
    pub cni_version: String,
    /// `name`
    pub name: String,
    /// `disableCheck`
    pub disable_check: bool,
    /// `disableGC`
    pub disable_gc: bool,
    /// the chain, each object whole
    pub plugins: Vec<Map<String, Value>>,
}

impl ConfList {
    /// From a `.conflist` file's bytes, or a single `.conf`/`.json` configuration (then a list of one).
    pub fn parse(_bytes: &[u8], _is_list: bool) -> Result<ConfList, Error> {
        todo!()
    }
    /// The stdin of plugin `index`: name and cniVersion injected, runtimeConfig by its declared capabilities from `capability_args`
    /// (left out if empty), prevResult if given.
    pub fn plugin_config(
        &self,
        _index: usize,
        _capability_args: &Map<String, Value>,
        _prev_result: Option<&Value>,
    ) -> Vec<u8> {
        todo!()
    }
}
