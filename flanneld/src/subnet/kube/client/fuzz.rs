//! The fuzz target of answers about one object.

use super::{Answer, Failure, Request, refusal};
use crate::subnet::kube::name;
use hyper::StatusCode;

const REQUEST: Request = Request {
    verb: "patch",
    resource: "nodes/status",
};

/// What a failure says is one short line.
pub(crate) fn answer(status: StatusCode, body: &[u8]) {
    if status.is_success() {
        name::node_of(body);
        drop(serde_json::from_slice::<Answer>(body));
        return;
    }
    let text = Failure::new(REQUEST, &refusal(status, body)).to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 4096, "{text}");
}
