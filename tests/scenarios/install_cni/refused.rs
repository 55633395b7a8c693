//! What the commands refuse, and that nothing changes then.

use super::{BIN, CNI_CONF, CONF_LIST, Node};
use tests::scenario;

#[scenario]
fn usage_is_an_error_and_help_is_not() {
    let node = Node::new();
    for command in ["install-cni", "install-conf", "uninstall-cni"] {
        let help = node.ok(&format!("{command} --help"));
        assert!(
            help.contains(&format!("Usage: flanneld {command} ")),
            "{help}"
        );
        let refusal = node.misused(&format!("{command} --no-such-flag"));
        assert!(
            refusal.starts_with("there is no flag -no-such-flag;"),
            "{refusal}"
        );
    }
    let missing = node.misused("install-conf /a");
    assert!(
        missing.starts_with("missing: DST; see `flanneld install-conf -h`"),
        "{missing}"
    );
    let unknown = node.misused("install-cni -plugins=calico");
    assert!(
        unknown.starts_with(r#"-plugins: "calico" is not a plugin of flanneld: "#),
        "{unknown}"
    );
}

#[scenario]
fn files_that_no_node_can_use_replace_nothing() {
    let node = Node::new();
    let before = node.files();
    // the header of an executable for another architecture
    node.0.sh("printf '\\177ELF\\002\\001\\001\\000\\000\\000\\000\\000\\000\\000\\000\\000\\002\\000\\012\\001' > /run/other");
    node.0.write("/run/half.json", "{\"name\":\"cbr0\",");
    for (arguments, message) in [
        (
            "install-cni -source=/run/other".to_owned(),
            "/run/other: an executable for machine 266 (64 bit), and this machine is ",
        ),
        (
            "install-cni -source=/etc/passwd".to_owned(),
            "/etc/passwd: not a Linux executable; nothing is installed",
        ),
        (
            "install-cni -source=/no/such".to_owned(),
            "/no/such: cannot read it: No such file",
        ),
        (
            format!("install-conf /no/such {CONF_LIST}"),
            "/no/such: cannot read it: No such file",
        ),
        (
            format!("install-conf /run/half.json {CONF_LIST}"),
            "/run/half.json: not a JSON object: EOF while parsing",
        ),
        (
            format!("install-conf {CNI_CONF} {BIN}"),
            "/opt/cni/bin: it is there and is not a file",
        ),
        (format!("install-conf {CNI_CONF} /"), "/: it names no file"),
    ] {
        let refusal = node.refused(&arguments);
        assert!(refusal.starts_with(message), "{arguments}: {refusal}");
    }
    node.0.sh("rm -f /opt/cni/.flanneld-installed");
    assert!(node.files() == before);
}

#[scenario]
fn a_folder_that_cannot_be_written_is_named() {
    let node = Node::new();
    let before = node.files();
    node.0.sh(&format!(
        "mount --bind {BIN} {BIN} && mount -o remount,bind,ro {BIN}"
    ));
    let nothing = node.ok("uninstall-cni");
    assert!(nothing.starts_with("nothing of install-cni"), "{nothing}");
    for command in ["install-cni", "install-conf /etc/hostname /opt/cni/bin/x"] {
        let refusal = node.refused(command);
        assert!(
            refusal.starts_with("/opt/cni/bin/")
                && refusal.contains("Read-only file system")
                && refusal.contains("mount the node's folder for reading and writing"),
            "{command}: {refusal}"
        );
    }
    node.0.sh(&format!("umount {BIN}"));
    assert!(node.files() == before);
}

#[scenario]
fn a_full_file_system_is_noticed_before_anything_is_written() {
    let node = Node::new();
    node.0
        .sh("mkdir /run/bin && mount -t tmpfs -o size=256k tmpfs /run/bin");
    node.0.write("/run/bin/flannel", "theirs");
    let refusal = node.refused("install-cni -bin-dir=/run/bin");
    assert!(
        refusal.starts_with("/run/bin: ") && refusal.contains(" bytes are needed and "),
        "{refusal}"
    );
    assert_eq!(node.0.sh("ls -A /run/bin"), "flannel\n");
    assert_eq!(node.0.sh("cat /run/bin/flannel"), "theirs");
}
