//! This node's name: NODE_NAME, else what the pod's spec says (upstream's rule).

use super::{Client, retry::ApiRetry};
use crate::subnet::Waiting;
use serde::Deserialize;

/// The variables do not name a node or a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// Upstream's words first.
    #[error(
        "env variables POD_NAME and POD_NAMESPACE must be set, or NODE_NAME with this node's name"
    )]
    Missing,
    /// A value that no object of Kubernetes can have as its name.
    #[error("{variable}={value:?} is not the name of a Kubernetes object")]
    Invalid {
        variable: &'static str,
        value: String,
    },
}

/// What the variables name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Node(String),
    Pod { namespace: String, name: String },
}

impl Named {
    fn by(variable: impl Fn(&str) -> Option<String>) -> Result<Named, NameError> {
        let variable = |name| checked(name, variable(name).unwrap_or_default());
        let node = variable("NODE_NAME")?;
        if !node.is_empty() {
            return Ok(Named::Node(node));
        }
        let (name, namespace) = (variable("POD_NAME")?, variable("POD_NAMESPACE")?);
        if name.is_empty() || namespace.is_empty() {
            return Err(NameError::Missing);
        }
        Ok(Named::Pod { namespace, name })
    }
}

/// An empty value, or a DNS subdomain: the value becomes a part of a URL.
fn checked(variable: &'static str, value: String) -> Result<String, NameError> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-';
    let starts_well = !value.starts_with(['.', '-']);
    if starts_well && value.len() < 254 && value.bytes().all(allowed) {
        return Ok(value);
    }
    Err(NameError::Invalid { variable, value })
}

/// Reads the variables; asks for the pod until the API server answers.
pub(super) async fn own_name(
    client: &Client,
    variable: impl Fn(&str) -> Option<String>,
    waiting: &Waiting,
) -> Result<String, NameError> {
    let (namespace, name) = match Named::by(variable)? {
        Named::Node(name) => return Ok(name),
        Named::Pod { namespace, name } => (namespace, name),
    };
    let mut retry = ApiRetry::default();
    loop {
        let answer = client.get_pod(&namespace, &name).await;
        let reason = match answer.as_deref().map(node_of) {
            Ok(Some(node)) => {
                waiting.clear();
                return Ok(node);
            }
            Ok(None) => format!("the pod {namespace}/{name} has no spec.nodeName"),
            Err(failure) => failure.to_string(),
        };
        waiting.report(format!(
            "for this node's name from the API server {}: {reason}",
            client.server()
        ));
        retry.wait(answer.err().as_ref()).await;
    }
}

pub(super) fn node_of(pod: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Pod {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: String,
    }
    let pod: Pod = serde_json::from_slice(pod).ok()?;
    checked("spec.nodeName", pod.spec.node_name)
        .ok()
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn named(variables: &[(&str, &str)]) -> Result<Named, NameError> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Named::by(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn node_name_comes_before_the_pod() {
        let pod = [
            ("POD_NAME", "kube-flannel-x"),
            ("POD_NAMESPACE", "kube-flannel"),
        ];
        assert_eq!(
            named(&[("NODE_NAME", "n1"), pod[0], pod[1]]),
            Ok(Named::Node("n1".into()))
        );
        assert_eq!(
            named(&[("NODE_NAME", ""), pod[0], pod[1]]),
            Ok(Named::Pod {
                namespace: "kube-flannel".into(),
                name: "kube-flannel-x".into()
            })
        );
        for missing in [&pod[..1], &pod[1..], &[]] {
            let text = named(missing).unwrap_err().to_string();
            assert!(text.starts_with("env variables POD_NAME and POD_NAMESPACE must be set"));
        }
    }

    #[test]
    fn name_cannot_leave_its_place_in_the_url() {
        for bad in [
            "../pods",
            "n1/status",
            "n 1",
            "N1",
            "n1?x",
            "-n",
            &"n".repeat(300),
        ] {
            let error = named(&[("NODE_NAME", bad)]).unwrap_err().to_string();
            assert!(error.contains("NODE_NAME"), "{error}");
        }
    }

    #[test]
    fn pod_names_its_node() {
        let pod = br#"{"kind":"Pod","spec":{"nodeName":"n1","containers":[]}}"#;
        assert_eq!(node_of(pod), Some("n1".into()));
        for bad in [
            &b"<html>"[..],
            b"{}",
            br#"{"spec":{}}"#,
            br#"{"spec":{"nodeName":""}}"#,
        ] {
            assert_eq!(node_of(bad), None);
        }
    }
}
