use super::*;
use crate::{cli::commands::NodeCommand, pki::Use};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

const NOW: i64 = 1_800_000_000;

fn pki(folder: &Path, command: &str) -> Result<String, String> {
    let args = format!("pki {command}");
    let mut args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
    args.push(format!("-dir={}", folder.display()));
    match NodeCommand::read("flanneld", &args) {
        Some(Ok(NodeCommand::Pki(options))) => {
            execute(&options, NOW).map_err(|error| error.to_string())
        }
        other => panic!("{other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn certificate(folder: &Path, name: &str) -> Certificate {
    Certificate::parse(&Folder(folder).issued(name).unwrap()).unwrap()
}

#[test]
fn init_and_issue_write_what_a_node_needs() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = &temporary.path().join("pki");
    assert!(
        pki(folder, "issue node-a")
            .unwrap_err()
            .contains("pki init")
    );
    pki(folder, "init").unwrap();
    let error = pki(folder, "init").unwrap_err();
    assert!(error.contains("pki rotate"), "{error}");
    pki(folder, "issue node-a 10.0.0.1 fd00::1 leases.example").unwrap();
    pki(folder, "issue node-b -days 7").unwrap();
    pki(folder, "issue --operator").unwrap();
    let a = certificate(folder, "node-a");
    assert_eq!(a.check(Use::Server(Some("fd00::1")), NOW), Ok(()));
    let b = certificate(folder, "node-b");
    assert!(b.ends_soon(NOW).is_some());
    let name = "node-b".to_owned();
    assert_eq!(Identity::of(&b), Identity::Node { name, unique: true });
    assert_eq!(
        Identity::of(&certificate(folder, "operator")),
        Identity::Operator
    );
    // copied to the node, it would give it every right
    for command in ["issue --operator node-a", "issue operator"] {
        let error = pki(folder, command).unwrap_err();
        assert!(error.contains("choose another name"), "{command}: {error}");
    }
    for (file, expected) in [
        ("", 0o700),
        ("ca.key", 0o600),
        ("node-a", 0o700),
        ("node-a/tls.key", 0o600),
        ("node-a/tls.crt", 0o644),
    ] {
        assert_eq!(mode(&folder.join(file)), expected, "{file}");
    }
    let authorities = fs::read(folder.join("ca.crt")).unwrap();
    assert_eq!(fs::read(folder.join("node-a/ca.crt")).unwrap(), authorities);
}

#[test]
fn rotation_has_two_steps() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = &temporary.path().join("pki");
    pki(folder, "init").unwrap();
    pki(folder, "issue node-a").unwrap();
    assert!(
        pki(folder, "rotate -finish")
            .unwrap_err()
            .contains("pki rotate")
    );
    let old = fs::read_to_string(folder.join("ca.crt")).unwrap();
    pki(folder, "rotate").unwrap();
    let both = fs::read_to_string(folder.join("node-a/ca.crt")).unwrap();
    assert!(both.ends_with(&old) && both.len() > old.len());
    assert!(pki(folder, "rotate").unwrap_err().contains("in progress"));
    let error = pki(folder, "rotate -finish").unwrap_err();
    assert!(error.contains("renew node-a"), "{error}");
    pki(folder, "issue node-a").unwrap();
    pki(folder, "rotate -finish").unwrap();
    let new = fs::read_to_string(folder.join("node-a/ca.crt")).unwrap();
    assert!(both.starts_with(&new) && new.len() < both.len(), "{new}");
    assert_eq!(Folder(folder).authorities().unwrap().len(), 1);
    pki(folder, "issue node-b").unwrap();
}

#[test]
fn what_cannot_be_used_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = &temporary.path().join("pki");
    pki(folder, "init").unwrap();
    for (command, reason) in [
        ("issue", "usage"),
        ("init node-a", "usage"),
        ("rotate node-a", "usage"),
        ("issue -operator admin 10.0.0.1", "usage"),
        ("issue -finish node-a", "usage"),
        ("issue ../x", "cannot be a name"),
        ("issue .x", "cannot be a name"),
        ("issue ca.crt", "cannot be a name"),
        (
            "issue node-a 10.0.0.1:8888",
            "neither an IP address nor a host name",
        ),
        ("issue node-a -days 0", "1 to 3650 days"),
    ] {
        let error = pki(folder, command).unwrap_err();
        assert!(error.contains(reason), "{command}: {error}");
    }
    assert_eq!(Folder(folder).names().unwrap(), Vec::<String>::new());
}
