//! Delegation (CNI spec section 4): in process if CNI_PATH resolves to this executable, otherwise
//! by execution. Both ways check the same and return the same bytes.

use crate::{Call, Verb, execute, identity, invoke::invoke, search};
use cni_conf::{AddResult, Code, Error};
use std::ffi::OsStr;

pub use crate::execute::Failure;

/// How deep plugins may delegate. `flannel` to `bridge` to `host-local` is 2 deep; a meta plugin in
/// front of them adds one or two.
const MAX_DEPTH: u32 = 8;

/// Runs `verb` of plugin `plugin_type` with `config` on stdin and the environment of `call`
/// (CNI_COMMAND overridden), and returns its stdout. Errors: code and message of the delegate;
/// `failed to find plugin "x" in path [...]`; `netplugin failed ...` if it printed no error; code 7
/// if the plugins of a configuration delegate to each other without end.
pub fn delegate(
    call: &Call,
    plugin_type: &str,
    verb: Verb,
    config: &[u8],
) -> Result<Vec<u8>, Failure> {
    delegate_with(call, plugin_type, verb, config, None)
}

fn delegate_with(
    call: &Call,
    plugin_type: &str,
    verb: Verb,
    config: &[u8],
    netns_cookie: Option<u64>,
) -> Result<Vec<u8>, Failure> {
    let environment = call.delegate_environment(verb);
    if environment.depth > MAX_DEPTH {
        return Err(Failure::Failed(too_deep(call, plugin_type)));
    }
    let file = search::find(plugin_type, &call.path).map_err(Failure::NotExecutable)?;
    let registered = (call.registry.iter()).find(|plugin| plugin.name() == plugin_type);
    match registered {
        Some(plugin) if identity::is_own(&file) => {
            let config = config.to_vec();
            Call::new(environment, config, plugin.versions(), call.registry)
                .and_then(|mut call| {
                    call.netns_cookie = netns_cookie;
                    invoke(*plugin, &call)
                })
                .map_err(Failure::Failed)
        }
        _ => {
            let depth = environment.depth.to_string();
            let mut variables = environment.variables().to_vec();
            variables.push((crate::environment::DEPTH, OsStr::new(&depth)));
            execute::execute(&file, &variables, config)
        }
    }
}

fn too_deep(call: &Call, plugin_type: &str) -> Error {
    let caller = &call.net.plugin_type;
    let text = format!(
        "plugins delegate more than {MAX_DEPTH} deep, at last {caller:?} to {plugin_type:?}: \
         \"ipam.type\" or \"delegate.type\" of network {:?} names a plugin that delegates again",
        call.net.name
    );
    Error::new(Code::InvalidNetworkConfig, text)
}

/// ADD of the IPAM plugin `call.net.ipam_type` with the same stdin. A result without a version has
/// that of the configuration. The cookie is that of the container's namespace, which a plugin in
/// another process has to find out itself.
pub fn ipam_add(call: &Call, netns_cookie: Option<u64>) -> Result<AddResult, Error> {
    let plugin = &call.net.ipam_type;
    let stdout = delegate_with(call, plugin, Verb::Add, &call.config, netns_cookie)?;
    AddResult::parse(&stdout, call.net.version)
}

/// Any other verb of the IPAM plugin with the same stdin; Ok without an IPAM plugin.
pub fn ipam(call: &Call, verb: Verb) -> Result<(), Error> {
    if call.net.ipam_type.is_empty() {
        return Ok(());
    }
    delegate(call, &call.net.ipam_type, verb, &call.config)?;
    Ok(())
}
