//! `make install` and `make uninstall`, into a folder of the test's.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Output},
};
use tests::{binaries, scenario};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn run(script: &str, arguments: &[&Path], destination: &Path) -> Output {
    let at = |place: &str| destination.join(place);
    let output = Command::new(format!("{ROOT}/scripts/{script}"))
        .args(arguments)
        .current_dir(ROOT)
        .env("CNI_BIN_DIR", at("opt/cni/bin"))
        .env("CNI_CONF_DIR", at("etc/cni/net.d"))
        .env("PREFIX", at("usr/local"))
        .env("UNIT_DIR", at("etc/systemd/system"))
        .env("RUN_PREFIX", "/usr/local")
        .env("PLUGINS", binaries::PLUGINS.join(" "))
        .output()
        .expect("script");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn install(destination: &Path) {
    run("install", &[&binaries::folder()], destination);
}

fn files(folder: &Path) -> Vec<String> {
    let output = Command::new("find")
        .arg(folder)
        .args(["-not", "-type", "d", "-printf", "%P\n"])
        .output()
        .expect("find");
    let mut files: Vec<_> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    files.sort();
    files
}

#[scenario]
fn uninstall_restores_what_install_replaced() {
    let folder = tempfile::tempdir().expect("folder");
    let bin = folder.path().join("opt/cni/bin");
    fs::create_dir_all(&bin).expect("bin");
    fs::write(bin.join("bridge"), "somebody else's").expect("bridge");
    fs::write(bin.join("dhcp"), "not ours to replace").expect("dhcp");
    let before = files(folder.path());

    install(folder.path());
    let suite = fs::metadata(bin.join("cni-suite")).expect("suite");
    for name in binaries::PLUGINS.iter() {
        assert_eq!(
            fs::metadata(bin.join(name)).expect(name).ino(),
            suite.ino(),
            "{name} is the suite"
        );
    }
    let unit = fs::read_to_string(folder.path().join("etc/systemd/system/flanneld.service"))
        .expect("unit");
    assert!(
        unit.contains("ExecStart=/usr/local/bin/flanneld "),
        "{unit}"
    );
    let about = Command::new(bin.join("bridge"))
        .env_remove("CNI_COMMAND")
        .output()
        .expect("bridge");
    assert!(
        String::from_utf8_lossy(&about.stderr).starts_with("CNI bridge plugin v"),
        "{about:?}"
    );
    install(folder.path());

    run("uninstall", &[], folder.path());
    assert_eq!(files(folder.path()), before);
    assert_eq!(
        fs::read_to_string(bin.join("bridge")).expect("bridge"),
        "somebody else's"
    );
}

#[scenario]
fn install_replaces_files_by_rename() {
    let folder = tempfile::tempdir().expect("folder");
    install(folder.path());
    let suite = folder.path().join("opt/cni/bin/cni-suite");
    let open = fs::File::open(&suite).expect("a running plugin's file");
    install(folder.path());
    let (old, new) = (
        open.metadata().expect("old"),
        fs::metadata(&suite).expect("new"),
    );
    assert_ne!(old.ino(), new.ino(), "a new file took the name");
    assert_eq!(old.len(), new.len(), "the old one was not written to");
    assert!(
        !files(folder.path())
            .iter()
            .any(|file| file.contains(".new")),
        "{:?}",
        files(folder.path())
    );
}

#[scenario]
fn a_changed_conf_list_survives_install_and_uninstall() {
    let folder = tempfile::tempdir().expect("folder");
    let conf_list = folder.path().join("etc/cni/net.d/10-flannel.conflist");
    fs::create_dir_all(conf_list.parent().expect("folder")).expect("folder");
    fs::write(&conf_list, "{}").expect("conf list");
    install(folder.path());
    run("uninstall", &[], folder.path());
    assert_eq!(fs::read_to_string(&conf_list).expect("kept"), "{}");
}
