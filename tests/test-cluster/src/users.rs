//! The users of the API server: each has a token.

pub(crate) const ADMIN: &str = "admin";
pub(crate) const SCHEDULER: &str = "system:kube-scheduler";
pub(crate) const PROXY: &str = "system:kube-proxy";

/// The user of a node's kubelet.
pub(crate) fn kubelet(node: &str) -> String {
    format!("system:node:{node}")
}

/// The file of `--token-auth-file`: token, user, uid, groups.
pub(crate) fn tokens() -> String {
    let groups = |user: &str| match user {
        ADMIN => "system:masters",
        user if user.starts_with("system:node:") => "system:nodes",
        _ => "",
    };
    let kubelets = ["node1", "node2"].map(kubelet);
    [ADMIN, SCHEDULER, PROXY]
        .into_iter()
        .chain(kubelets.iter().map(String::as_str))
        .map(|user| format!("{},{user},{user},{}\n", token(user), groups(user)))
        .collect()
}

fn token(user: &str) -> String {
    format!("token-of-{}", user.replace(':', "-"))
}

/// A kubeconfig.
pub(crate) fn kubeconfig(server: &str, ca: &str, user: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: '{server}', certificate-authority: '{ca}'}}}}]
users: [{{name: test, user: {{token: {}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
current-context: test
",
        token(user)
    )
}
