//! docs/certificates.md: its own commands, on two machines, and what each certificate may do then.

use super::pod;
use std::time::Duration;
use tests::{
    page::{Machines, Page},
    process::eventually,
    scenario, subnet_env,
};

const NODES: [&str; 2] = ["node-a", "node-b"];
const NET_CONF: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Two machines with flanneld and certificates.
fn machines(page: &Page) -> Machines {
    let machines = Machines::new(&NODES);
    for node in NODES {
        machines.sh(node, "make install");
    }
    machines
        .host("node-a")
        .write("/etc/kube-flannel/net-conf.json", NET_CONF);
    page.run("Make them", &machines, &[]);
    machines
}

/// The status and the body of a request with one of the certificates.
fn request(machines: &Machines, holder: &str, method: &str, path: &str) -> String {
    let files = format!("/etc/flannel/pki/{holder}");
    machines.sh(
        "node-a",
        &format!(
            "curl -sS -w ' %{{http_code}}' -X {method} --cacert {files}/ca.crt --cert {files}/tls.crt \
             --key {files}/tls.key https://10.0.0.1:8888/v1/_/{path}"
        ),
    )
}

fn subnet(machines: &Machines, node: &str) -> String {
    let subnet = subnet_env::value(machines.host(node), "FLANNEL_SUBNET").expect("a subnet");
    subnet.replace(".1/24", ".0/24")
}

#[scenario]
fn certificates_are_renewed_and_replaced_by_the_commands_of_the_page() {
    let page = Page::open("certificates.md");
    let machines = machines(&page);
    page.run("Use them", &machines, &[]);
    let pods = NODES.map(|node| pod(&machines, node));
    subnet_env::eventually_pings(&pods[0], machines.host("node-b"));
    let leases = page.run("An operator's certificate", &machines, &[]);
    assert_eq!(leases.matches("\"PublicIP\"").count(), 2, "{leases}");

    let path = format!("leases/{}", subnet(&machines, "node-a").replace('/', "-"));
    let refused = request(&machines, "node-b", "DELETE", &path);
    assert!(
        refused.contains("belongs to node-a") && refused.ends_with(" 403"),
        "{refused}"
    );

    let second = subnet(&machines, "node-b");
    for section in ["Renew a certificate", "Replace the authority"] {
        let files = machines.sh("node-b", "md5sum /etc/flannel/tls/tls.crt");
        page.run(section, &machines, &[]);
        assert_ne!(
            machines.sh("node-b", "md5sum /etc/flannel/tls/tls.crt"),
            files
        );
        machines.sh("node-b", "systemctl restart flanneld");
        assert_eq!(subnet(&machines, "node-b"), second);
    }
    assert_eq!(
        machines.sh(
            "node-b",
            "stat -c %a /etc/flannel/tls /etc/flannel/tls/tls.key"
        ),
        "700\n600\n"
    );
    let path = format!("leases/{}", second.replace('/', "-"));
    let revoked = request(&machines, "operator", "DELETE", &path);
    assert!(revoked.ends_with(" 200"), "{revoked}");
    eventually("the daemon of node-b ends", TIMEOUT, || {
        let output = machines.try_sh("node-b", "systemctl is-active flanneld");
        (!output.status.success()).then_some(())
    });
}

#[scenario]
fn a_certificate_that_cannot_be_used_ends_the_daemon_with_the_reason() {
    let page = Page::open("certificates.md");
    let machines = machines(&page);
    // the certificate of a node that serves nothing has no address
    machines.sh(
        "node-a",
        "flanneld pki issue node-a && cp -p /etc/flannel/pki/node-a/* /etc/flannel/tls/ \
         && printf '%s\\n' FLANNELD_REMOTE_CAFILE=/etc/flannel/tls/ca.crt FLANNELD_REMOTE_CERTFILE=/etc/flannel/tls/tls.crt \
            FLANNELD_REMOTE_KEYFILE=/etc/flannel/tls/tls.key FLANNELD_LISTEN=10.0.0.1:8888 > /etc/default/flanneld",
    );
    let started = machines.try_sh("node-a", "systemctl start flanneld");
    assert!(!started.status.success());
    let log = machines.sh("node-a", "journalctl -u flanneld");
    assert!(
        log.contains("tls.crt: it may not be used by a server")
            && log.contains("flanneld pki issue NAME"),
        "{log}"
    );
}
