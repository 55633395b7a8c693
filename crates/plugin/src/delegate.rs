//! Delegation (CNI spec section 4): by execution, or in process where CNI_PATH resolves to this
//! very executable. Both ways check the same things and give the same bytes.
use crate::{Call, Plugin, Verb, execute, frame, identity, search};
use cni_conf::{AddResult, Error};

/// The plugins that live in this executable.
pub type Registry = &'static [&'static dyn Plugin];

impl std::fmt::Debug for dyn Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs `verb` of plugin `plugin_type` with `config` on stdin and the environment of `call`
/// (CNI_COMMAND overridden). Gives its stdout. Errors: the delegate's own code and message; `failed
/// to find plugin "x" in path [...]`; or, where it ended without a word, `netplugin failed ...`.
pub fn delegate(
    call: &Call,
    plugin_type: &str,
    verb: Verb,
    config: &[u8],
) -> Result<Vec<u8>, Error> {
    let file = search::find(plugin_type, &call.path)?;
    let environment = call.environment(verb);
    let held = call
        .registry
        .iter()
        .find(|plugin| plugin.name() == plugin_type);
    match held {
        Some(plugin) if identity::is_own(&file) => {
            let call = Call::new(
                environment,
                config.to_vec(),
                plugin.versions(),
                call.registry,
            )?;
            frame::invoke(*plugin, &call)
        }
        _ => execute::execute(&file, &environment.variables(), config),
    }
}

/// ADD of the IPAM plugin `call.net.ipam_type` with the same stdin. A result that does not tell its
/// version is read as one of the configuration's.
pub fn ipam_add(call: &Call) -> Result<AddResult, Error> {
    let stdout = delegate(call, &call.net.ipam_type, Verb::Add, &call.config)?;
    AddResult::parse(&stdout, call.net.version)
}

/// Any other verb of the IPAM plugin with the same stdin; Ok if there is none.
pub fn ipam(call: &Call, verb: Verb) -> Result<(), Error> {
    if call.net.ipam_type.is_empty() {
        return Ok(());
    }
    delegate(call, &call.net.ipam_type, verb, &call.config).map(drop)
}
