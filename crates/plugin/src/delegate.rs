//! Delegation (CNI spec section 4): in process if CNI_PATH resolves to this executable, otherwise
//! by execution. Both ways check the same and return the same bytes.

use crate::{Call, Verb, execute, identity, invoke::invoke, search};
use cni_conf::{AddResult, Error};

/// Runs `verb` of plugin `plugin_type` with `config` on stdin and the environment of `call`
/// (CNI_COMMAND overridden), and returns its stdout. Errors: code and message of the delegate;
/// `failed to find plugin "x" in path [...]`; `netplugin failed ...` if it printed no error.
pub fn delegate(
    call: &Call,
    plugin_type: &str,
    verb: Verb,
    config: &[u8],
) -> Result<Vec<u8>, Error> {
    let file = search::find(plugin_type, &call.path)?;
    let environment = call.delegate_environment(verb);
    let registered = (call.registry.iter()).find(|plugin| plugin.name() == plugin_type);
    match registered {
        Some(plugin) if identity::is_own(&file) => {
            let config = config.to_vec();
            let call = Call::new(environment, config, plugin.versions(), call.registry)?;
            invoke(*plugin, &call)
        }
        _ => execute::execute(&file, &environment.variables(), config),
    }
}

/// ADD of the IPAM plugin `call.net.ipam_type` with the same stdin. A result without a version has
/// that of the configuration.
pub fn ipam_add(call: &Call) -> Result<AddResult, Error> {
    let stdout = delegate(call, &call.net.ipam_type, Verb::Add, &call.config)?;
    AddResult::parse(&stdout, call.net.version)
}

/// Any other verb of the IPAM plugin with the same stdin; Ok without an IPAM plugin.
pub fn ipam(call: &Call, verb: Verb) -> Result<(), Error> {
    if call.net.ipam_type.is_empty() {
        return Ok(());
    }
    delegate(call, &call.net.ipam_type, verb, &call.config).map(drop)
}
