//! Plugins that run under strace.

use crate::{Host, binaries::BIN};

/// The folder of these plugins, for CNI_PATH.
pub const TRACED: &str = "/opt/traced";

/// Puts a script of the plugin's name into [`TRACED`] that executes the one in [`BIN`] under
/// strace. The system calls of a call are then in /run/trace. `$NAME` in `options`, which are
/// strace's, is a variable of the call.
pub fn trace_plugin(host: &Host, plugin: &str, options: &str) {
    // written by a shell: a child that another scenario starts has what this process has open, and
    // a file that is open for writing cannot be executed
    host.sh(&format!(
        "mkdir -p {TRACED} && cd {TRACED} \
         && echo '#!/bin/sh\nexec strace -f -qq -o /run/trace {options} {BIN}/{plugin}' > {plugin} \
         && chmod +x {plugin}"
    ));
}
