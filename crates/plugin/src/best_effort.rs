//! Steps that may fail without harm.

/// The value of such a step. The error is dropped: a plugin has no debug log, and its stderr is for
/// what an administrator has to know. `reason` says at the call why a failure does no harm.
pub fn best_effort<T, E>(result: Result<T, E>, _reason: &str) -> Option<T> {
    result.ok()
}
