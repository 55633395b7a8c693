//! Delegation (CNI spec section 4): by execution, or in process where CNI_PATH resolves to this very executable.
use crate::{Call, Plugin, Verb};
use cni_conf::{AddResult, Error};

/// The plugins that live in this executable.
pub type Registry = &'static [&'static dyn Plugin];

impl std::fmt::Debug for dyn Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs `verb` of plugin `plugin_type` with `config` on stdin and the environment of `call` (CNI_COMMAND overridden).
/// Gives its stdout. Errors: the delegate's own code and message; `failed to find plugin "x" in path [...]`; ...
pub fn delegate(
    _call: &Call,
    _plugin_type: &str,
    _verb: Verb,
    _config: &[u8],
) -> Result<Vec<u8>, Error> {
    todo!()
}

/// ADD of the IPAM plugin `call.net.ipam_type` with the same stdin.
pub fn ipam_add(_call: &Call) -> Result<AddResult, Error> {
    todo!()
}
/// Any other verb of the IPAM plugin with the same stdin; Ok if there is none.
pub fn ipam(_call: &Call, _verb: Verb) -> Result<(), Error> {
    todo!()
}
