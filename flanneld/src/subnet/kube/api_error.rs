//! What a failed request to the API server says: the request, the reason and what to do.

use crate::{
    one_line::one_line,
    pki::{self, ClientFiles, Peer},
};
use kube::Error;
use std::error::Error as _;

/// For messages: the files are those of the kubeconfig or service account.
const API_SERVER: ClientFiles<'_> = ClientFiles {
    peer: Peer::ApiServer,
    server: "",
    certificate: None,
    authority: None,
};

/// A request, in the words of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// "get", "list", "watch", "patch"
    pub(crate) verb: &'static str,
    /// "nodes", "nodes/status", "pods"
    pub(crate) resource: &'static str,
}

/// The HTTP status of an answer that is an error.
pub(crate) fn status_code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The text that completes "waiting for the API server: ".
pub(crate) fn describe(request: Request, error: &Error) -> String {
    let Request { verb, resource } = request;
    match error {
        Error::Api(status) if status.code == 403 => format!(
            "flanneld may not {verb} {resource}: bind its service account to a ClusterRole that \
             allows the verb {verb} on {resource} (kube-flannel.yml has it: ClusterRole flannel): {}",
            one_line(&status.message)
        ),
        Error::Api(status) if status.code == 401 => format!(
            "the API server does not accept flanneld's credentials: renew the token or certificate \
             of the service account or kubeconfig: {}",
            one_line(&status.message)
        ),
        Error::Api(status) => format!(
            "{verb} {resource}: the API server answers {} {}: {}",
            status.code,
            one_line(&status.reason),
            one_line(&status.message)
        ),
        error => {
            let tls = pki::server_refused(error, API_SERVER);
            format!("{verb} {resource}: {}", tls.unwrap_or_else(|| chain(error)))
        }
    }
}

/// The innermost reasons of an error: the outer ones only say that a request failed.
fn chain(error: &Error) -> String {
    let mut text = match error {
        Error::Service(_) | Error::HyperError(_) => String::new(),
        error => one_line(&error.to_string()),
    };
    let mut source = error.source();
    while let Some(error) = source {
        let reason = one_line(&error.to_string());
        if !text.contains(&reason) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&reason);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use tokio_rustls::rustls;

    const PATCH: Request = Request {
        verb: "patch",
        resource: "nodes/status",
    };

    fn answer(code: u16, reason: &str, message: &str) -> Error {
        Error::Api(Box::new(Status::failure(message, reason).with_code(code)))
    }

    #[test]
    fn missing_permission_names_verb_resource_and_remedy() {
        let error = answer(403, "Forbidden", "nodes \"n1\" is forbidden");
        let text = describe(PATCH, &error);
        for part in ["patch", "nodes/status", "ClusterRole", "is forbidden"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn certificate_of_another_authority_is_named_in_words() {
        let cause = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let failed = std::io::Error::other(cause);
        let text = describe(PATCH, &Error::Service(Box::new(failed)));
        assert!(
            text.starts_with(
                "patch nodes/status: the API server's certificate is not from the authority"
            ),
            "{text}"
        );
    }

    #[test]
    fn message_of_a_server_is_bounded() {
        let text = describe(PATCH, &answer(500, "InternalError", &"x\n".repeat(100_000)));
        assert!(text.len() < 500, "{}", text.len());
        assert!(!text.contains('\n'));
    }

    #[test]
    fn reasons_are_not_repeated() {
        let refused = std::io::Error::other("Connection refused (os error 111)");
        let text = describe(PATCH, &Error::Service(Box::new(refused)));
        assert_eq!(
            text,
            "patch nodes/status: Connection refused (os error 111)"
        );
    }
}
