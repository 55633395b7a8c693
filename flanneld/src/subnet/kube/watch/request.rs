//! The requests of the watch.

use crate::subnet::kube::api_error;
use std::{fmt::Write, time::Duration};

/// Nodes of one page.
const PAGE_LIMIT: usize = 500;
const NODES: &str = "/api/v1/nodes";

/// A request for nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// A watch that begins with every node that there is, and says when they are complete.
    StreamingList,
    /// A page of nodes: the first one if the token is empty.
    Page { continue_token: String },
    /// A watch of what happens after a position.
    Watch { resource_version: String },
}

impl Request {
    /// True for a request that begins a listing of all nodes.
    pub(super) fn starts_listing(&self) -> bool {
        match self {
            Request::StreamingList => true,
            Request::Page { continue_token } => continue_token.is_empty(),
            Request::Watch { .. } => false,
        }
    }

    /// The request in the words of RBAC.
    pub(super) fn access(&self) -> api_error::Request {
        let verb = match self {
            Request::Page { .. } => "list",
            Request::StreamingList | Request::Watch { .. } => "watch",
        };
        api_error::Request {
            verb,
            resource: "nodes",
        }
    }

    /// Path and query. The server ends a watch after `timeout`.
    pub(super) fn path(&self, timeout: Duration) -> String {
        let watch = format!(
            "{NODES}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}",
            timeout.as_secs()
        );
        match self {
            Request::StreamingList => {
                format!("{watch}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
            }
            Request::Watch { resource_version } => {
                format!("{watch}&resourceVersion={}", encoded(resource_version))
            }
            Request::Page { continue_token } if continue_token.is_empty() => {
                format!("{NODES}?limit={PAGE_LIMIT}")
            }
            Request::Page { continue_token } => {
                format!(
                    "{NODES}?limit={PAGE_LIMIT}&continue={}",
                    encoded(continue_token)
                )
            }
        }
    }
}

/// A value of a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            // writing to a String does not fail
            _ => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let timeout = Duration::from_secs(300);
        let path = |request: Request| request.path(timeout);
        assert_eq!(
            path(Request::StreamingList),
            "/api/v1/nodes?watch=true&allowWatchBookmarks=true&timeoutSeconds=300\
             &sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        assert_eq!(
            path(Request::Watch {
                resource_version: "4 2&x".to_owned()
            }),
            "/api/v1/nodes?watch=true&allowWatchBookmarks=true&timeoutSeconds=300\
             &resourceVersion=4%202%26x"
        );
        assert_eq!(
            path(Request::Page {
                continue_token: String::new()
            }),
            "/api/v1/nodes?limit=500"
        );
        assert_eq!(
            path(Request::Page {
                continue_token: "eyJ2Ijo=".to_owned()
            }),
            "/api/v1/nodes?limit=500&continue=eyJ2Ijo%3D"
        );
    }
}
