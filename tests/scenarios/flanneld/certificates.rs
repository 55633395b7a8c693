//! docs/certificates.md: its own commands, on two hosts, and what each certificate may do then.

use super::cluster::{Cluster, V4};
use tests::{Host, binaries::program, scenario, underlay};

const PAGE: &str = include_str!("../../../docs/certificates.md");
/// In place of /etc/flannel, which is not the host's own.
const FOLDER: &str = "/run/etc-flannel";

/// The indented lines of a section, as they are on these hosts.
fn lines(heading: &str) -> Vec<String> {
    let section = PAGE
        .split("\n## ")
        .find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no section {heading}"));
    let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
    lines
        .map(|line| {
            line.replace("/etc/flannel", FOLDER)
                .replace("10.0.0.1", &underlay::ip(1))
        })
        .collect()
}

/// Runs the commands of a section on the first host, and returns what the last one prints. The
/// second host is reached without ssh.
fn run(cluster: &Cluster, heading: &str) -> String {
    let (first, second) = (cluster.host(1), cluster.host(2));
    let mut printed = String::new();
    for line in lines(heading) {
        if let Some(remote) = line.strip_prefix("ssh root@node-b ") {
            second.sh(remote);
        } else if let Some(copy) = line.strip_prefix("scp ") {
            let (files, to) = copy
                .split_once(" root@node-b:")
                .expect("scp FILES root@node-b:TO");
            let files = files.trim_start_matches("-p ");
            let archive = first.sh(&format!("tar -c --transform 's,.*/,,' -P {files} | base64"));
            second.write("/run/copied", &archive);
            second.sh(&format!("base64 -d /run/copied | tar -x -C {to}"));
        } else {
            let path = program("flanneld");
            let command = match line.strip_prefix("flanneld ") {
                Some(arguments) => format!("{} {arguments} -dir {FOLDER}/pki", path.display()),
                None => line,
            };
            printed = first.sh(&command);
        }
    }
    printed
}

/// Starts a daemon with the variables of the page, and waits until it is ready.
fn start(cluster: &mut Cluster, node: usize) {
    let variables = lines("Use them");
    let variables: Vec<_> = variables
        .iter()
        .filter_map(|line| line.split_once('='))
        .collect();
    assert_eq!(variables.len(), 3);
    cluster.start_with(node, &["-insecure=false"], &variables);
    cluster.wait_ready(node);
}

/// The status and the body of a request with one of the certificates.
fn request(host: &Host, holder: &str, method: &str, path: &str) -> String {
    let files = format!("{FOLDER}/pki/{holder}");
    let server = underlay::ip(1);
    host.sh(&format!(
        "curl -sS -w ' %{{http_code}}' -X {method} --cacert {files}/ca.crt --cert {files}/tls.crt --key {files}/tls.key \
         https://{server}:8888/v1/_/{path}"
    ))
}

#[scenario]
fn the_page_makes_a_network_whose_certificates_are_renewed_and_replaced() {
    let mut cluster = Cluster::idle(2, V4);
    run(&cluster, "Make them");
    for node in [1, 2] {
        start(&mut cluster, node);
    }
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    drop(pods);
    let leases = run(&cluster, "An operator's certificate");
    assert_eq!(leases.matches("\"PublicIP\"").count(), 2, "{leases}");

    let first = cluster.subnet(1).replace('/', "-");
    let path = format!("leases/{first}");
    let refused = request(cluster.host(1), "node-b", "DELETE", &path);
    assert!(
        refused.contains("belongs to node-a") && refused.ends_with(" 403"),
        "{refused}"
    );

    let second = cluster.subnet(2);
    for section in ["Renew a certificate", "Replace the authority"] {
        let files = cluster.host(2).sh(&format!("md5sum {FOLDER}/tls/tls.crt"));
        run(&cluster, section);
        assert_ne!(
            cluster.host(2).sh(&format!("md5sum {FOLDER}/tls/tls.crt")),
            files
        );
        cluster.stop(2);
        start(&mut cluster, 2);
        assert_eq!(cluster.subnet(2), second);
    }
    assert_eq!(
        cluster
            .host(2)
            .sh(&format!("stat -c %a {FOLDER}/tls {FOLDER}/tls/tls.key")),
        "700\n600\n"
    );
    let path = format!("leases/{}", second.replace('/', "-"));
    let revoked = request(cluster.host(1), "operator", "DELETE", &path);
    assert!(revoked.ends_with(" 200"), "{revoked}");
    let log = cluster.daemon(2).wait(super::cluster::TIMEOUT);
    assert!(!log.success());
}

#[scenario]
fn a_certificate_that_cannot_be_used_ends_the_daemon_with_the_reason() {
    let mut cluster = Cluster::idle(2, V4);
    run(&cluster, "Make them");
    let variables = lines("Use them");
    let variables: Vec<_> = variables
        .iter()
        .filter_map(|line| line.split_once('='))
        .collect();
    // the certificate of a node that serves nothing has no address
    let flanneld = program("flanneld");
    cluster.host(1).sh(&format!(
        "{} pki issue node-a -dir {FOLDER}/pki && cp -p {FOLDER}/pki/node-a/* {FOLDER}/tls/",
        flanneld.display()
    ));
    cluster.start_with(1, &["-insecure=false"], &variables);
    let status = cluster.daemon(1).wait(super::cluster::TIMEOUT);
    let log = cluster.daemon(1).output();
    assert!(!status.success());
    assert!(
        log.contains("tls.crt: it may not be used by a server")
            && log.contains("flanneld pki issue NAME"),
        "{log}"
    );
}
