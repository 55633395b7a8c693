//! The condition NetworkUnavailable, by which the scheduler knows that pods get a network.

use super::Condition;
use jiff::Timestamp;

const REASON: &str = "FlannelIsUp";

/// The body of the patch, in upstream's bytes. Times have whole seconds, as Go's `metav1.Time`.
pub(super) fn patch(now: Timestamp) -> String {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!(
        r#"{{"status":{{"conditions":[{{"type":"NetworkUnavailable","status":"False","lastHeartbeatTime":"{now}","lastTransitionTime":"{now}","reason":"{REASON}","message":"Flannel is running on this node"}}]}}}}"#
    )
}

/// True if the condition has to be set. A `False` of another party (a cloud's route controller) is
/// replaced once, as upstream replaces it, and then left alone.
pub(super) fn is_due(condition: Option<&Condition>, was_set: bool) -> bool {
    match condition {
        None => true,
        Some(condition) if condition.status != "False" => true,
        Some(condition) => !was_set && condition.reason != REASON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_has_upstreams_bytes() {
        let now = "2026-11-21T08:09:05.987Z".parse().unwrap();
        assert_eq!(
            patch(now),
            r#"{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False","lastHeartbeatTime":"2026-11-21T08:09:05Z","lastTransitionTime":"2026-11-21T08:09:05Z","reason":"FlannelIsUp","message":"Flannel is running on this node"}]}}"#
        );
    }

    #[test]
    fn condition_is_set_when_it_is_missing_flipped_or_anothers() {
        let condition = |status: &str, reason: &str| Condition {
            status: status.into(),
            reason: reason.into(),
        };
        let ours = condition("False", REASON);
        let others = condition("False", "RouteCreated");
        assert!(is_due(None, false) && is_due(None, true));
        for was_set in [false, true] {
            assert!(!is_due(Some(&ours), was_set));
            for status in ["True", "Unknown", ""] {
                assert!(is_due(Some(&condition(status, REASON)), was_set));
            }
        }
        assert!(is_due(Some(&others), false) && !is_due(Some(&others), true));
    }
}
