//! Steps that may fail without harm.

use std::fmt::Display;
use tracing::debug;

/// The value of such a step; its error goes to the debug log. `reason` says why the failure does no
/// harm.
pub(crate) fn best_effort<T, E: Display>(result: Result<T, E>, reason: &str) -> Option<T> {
    result
        .inspect_err(|error| debug!("{error} (ignored: {reason})"))
        .ok()
}
