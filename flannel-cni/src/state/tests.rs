use super::*;
use std::{collections::BTreeSet, os::unix::fs::PermissionsExt};
use tempfile::TempDir;

fn delegate(mtu: u32) -> Delegate {
    Delegate::from_saved(format!(r#"{{"mtu":{mtu},"type":"bridge"}}"#).into()).unwrap()
}

struct Node(TempDir);
impl Node {
    fn new() -> Node {
        Node(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("flannel")
    }

    fn state(&self, ifname: &str) -> State {
        State::new(&self.dir(), "c1", ifname)
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// As upstream's ADD does.
    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.dir()).unwrap();
        fs::write(self.dir().join(name), bytes).unwrap();
    }
}

#[test]
fn file_has_both_names_until_removed() {
    let node = Node::new();
    let state = node.state("eth0");
    assert_eq!(state.load().unwrap(), Saved::Nothing);
    state.save(&delegate(1)).unwrap();
    assert_eq!(fs::read(node.dir().join("c1")).unwrap(), delegate(1).config);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode(node.dir()), mode(node.dir().join("c1"))),
        (0o700, 0o600)
    );
    state.save(&delegate(2)).unwrap();
    assert_eq!(fs::read(node.dir().join("c1")).unwrap(), delegate(2).config);
    assert_eq!(state.load().unwrap(), Saved::Delegate(delegate(2)));
    assert_eq!(
        node.names(),
        BTreeSet::from(["c1", "c1@eth0"].map(String::from))
    );
    state.remove().unwrap();
    state.remove().unwrap();
    assert!(node.names().is_empty());
}

#[test]
fn attachments_of_one_container_are_independent() {
    let node = Node::new();
    let (eth0, net1) = (node.state("eth0"), node.state("net1"));
    eth0.save(&delegate(1)).unwrap();
    net1.save(&delegate(2)).unwrap();
    assert_eq!(fs::read(node.dir().join("c1")).unwrap(), delegate(1).config);
    assert_eq!(eth0.load().unwrap(), Saved::Delegate(delegate(1)));
    net1.remove().unwrap();
    // a second DEL of the one has nothing to do with the other
    assert_eq!(net1.load().unwrap(), Saved::Nothing);
    net1.remove().unwrap();
    assert_eq!(eth0.load().unwrap(), Saved::Delegate(delegate(1)));
    eth0.remove().unwrap();
    assert!(node.names().is_empty());
}

#[test]
fn upstreams_file_is_read_and_removed() {
    let node = Node::new();
    node.write("c1", &delegate(1).config);
    let (eth0, net1) = (node.state("eth0"), node.state("net1"));
    net1.save(&delegate(2)).unwrap();
    net1.remove().unwrap();
    assert_eq!(eth0.load().unwrap(), Saved::Delegate(delegate(1)));
    eth0.remove().unwrap();
    assert!(node.names().is_empty());
}

#[test]
fn file_survives_upstreams_del() {
    let node = Node::new();
    let eth0 = node.state("eth0");
    eth0.save(&delegate(1)).unwrap();
    fs::remove_file(node.dir().join("c1")).unwrap();
    assert_eq!(eth0.load().unwrap(), Saved::Delegate(delegate(1)));
    eth0.remove().unwrap();
    assert!(node.names().is_empty());
}

#[test]
fn damaged_files_are_recognised_and_removed() {
    let node = Node::new();
    for damaged in ["", "\0\0\0\0", "{\"type\":", "{\"mtu\":1}"] {
        node.write("c1", damaged.as_bytes());
        assert_eq!(node.state("eth0").load().unwrap(), Saved::Damaged);
        node.state("eth0").remove().unwrap();
        assert!(node.names().is_empty());
    }
}

#[test]
fn unfinished_file_is_removed_with_its_attachment() {
    let node = Node::new();
    node.state("net1").save(&delegate(1)).unwrap();
    node.write(".c1@eth0.tmp", b"{");
    assert_eq!(node.state("eth0").load().unwrap(), Saved::Nothing);
    node.state("eth0").remove().unwrap();
    assert_eq!(
        node.state("net1").load().unwrap(),
        Saved::Delegate(delegate(1))
    );
    assert!(node.names().iter().eq(["c1", "c1@net1"]));
}

#[test]
fn errors_name_the_path() {
    let message = |error: Error| error.to_string();
    let empty = State::new(Path::new(""), "c1", "eth0");
    assert_eq!(
        message(empty.save(&delegate(1)).unwrap_err()),
        "mkdir : no such file or directory"
    );
    let node = Node::new();
    node.write("file", b"");
    let inside = State::new(&node.dir().join("file"), "c1", "eth0");
    let path = node.dir().join("file/c1@eth0");
    assert_eq!(
        message(inside.load().unwrap_err()),
        format!("stat {}: not a directory", path.display())
    );
    assert_eq!(
        message(inside.save(&delegate(1)).unwrap_err()),
        format!("write {}: not a directory", path.display())
    );
}

#[test]
fn list_has_each_attachment_once() {
    let node = Node::new();
    assert!(list(&node.dir()).unwrap().is_empty());
    node.state("eth0").save(&delegate(1)).unwrap();
    node.state("net1").save(&delegate(2)).unwrap();
    node.write("by-go", &delegate(3).config);
    node.write("damaged", b"");
    node.write(".c9@eth0.tmp", b"{");
    node.write(".hidden", b"");
    node.write("no id", b"");
    fs::create_dir(node.dir().join("folder")).unwrap();
    let mut listed = list(&node.dir()).unwrap();
    listed.sort_by_key(|one| (one.container_id.clone(), one.ifname.clone()));
    let names: Vec<_> = listed
        .iter()
        .map(|one| {
            (
                one.container_id.as_str(),
                one.ifname.as_deref(),
                one.delegate(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            ("by-go", None, Some(delegate(3))),
            ("c1", Some("eth0"), Some(delegate(1))),
            ("c1", Some("net1"), Some(delegate(2))),
            ("damaged", None, None),
        ]
    );
    for one in listed {
        one.remove().unwrap();
    }
    assert_eq!(
        node.names(),
        BTreeSet::from([".hidden", "folder", "no id"].map(String::from))
    );
}
