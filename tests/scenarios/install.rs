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
        .env("SYSCONF_DIR", at("etc"))
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

const CONFIGURATION: [&str; 3] = [
    "etc/cni/net.d/10-flannel.conflist",
    "etc/kube-flannel/net-conf.json",
    "etc/default/flanneld",
];

#[scenario]
fn changed_configuration_survives_install_and_uninstall() {
    for name in CONFIGURATION {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("folder")).expect("folder");
        fs::write(&file, "changed").expect("configuration");
        let kept = run("install", &[&binaries::folder()], folder.path());
        let printed = String::from_utf8_lossy(&kept.stdout).into_owned();
        assert!(printed.contains(&format!("{name} (kept")), "{printed}");
        run("uninstall", &[], folder.path());
        assert_eq!(fs::read_to_string(&file).expect("kept"), "changed");
        assert_eq!(files(folder.path()), [name]);
    }
}

/// As they are installed, and with each suggestion of the options in force.
#[scenario]
fn installed_samples_are_configurations_that_flanneld_accepts() {
    let folder = tempfile::tempdir().expect("folder");
    install(folder.path());
    let [_, network, options] = CONFIGURATION.map(|name| folder.path().join(name));
    let flanneld = folder.path().join("usr/local/bin/flanneld");
    let checked = Command::new(&flanneld)
        .arg("check-config")
        .arg(&network)
        .output()
        .expect("flanneld");
    let means = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success() && means.contains("10.244.0.0/16"),
        "{checked:?}"
    );
    let text = fs::read_to_string(&options).expect("options");
    let variables: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| name.starts_with("FLANNELD_"))
        .collect();
    assert!(variables.len() > 5, "{text}");
    let help = Command::new(&flanneld).arg("-h").output().expect("help");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for (name, value) in variables {
        let flag = name.trim_start_matches("FLANNELD_").to_lowercase();
        let flag = format!("  -{}", flag.replace('_', "-"));
        assert!(help.contains(&flag), "{name} is no flag's: {help}");
        // the store of leases is not there: the error is not that of the variable
        let output = Command::new(&flanneld)
            .args(["lease", "export"])
            .env(name, value)
            .env("FLANNELD_ETCD_ENDPOINTS", "unix:///")
            .output()
            .expect("flanneld");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!error.contains("the variable"), "{name}: {error}");
    }
}

fn no_systemd() -> Option<String> {
    let found = Path::new("/usr/bin/systemd-analyze").exists();
    (!found).then(|| "/usr/bin/systemd-analyze is not installed".to_owned())
}

/// systemd's own check of the unit.
#[scenario(unless = no_systemd)]
fn unit_is_one_that_systemd_reads() {
    let folder = tempfile::tempdir().expect("folder");
    install(folder.path());
    let unit = folder.path().join("etc/systemd/system/flanneld.service");
    let text = fs::read_to_string(&unit).expect("unit");
    let program = folder.path().join("usr/local/bin/flanneld");
    let here = text.replace("/usr/local/bin/flanneld", &program.display().to_string());
    fs::write(&unit, here).expect("unit");
    let checked = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
        .expect("systemd-analyze");
    let complaints = String::from_utf8_lossy(&checked.stderr).into_owned();
    let ours: Vec<_> = complaints
        .lines()
        .filter(|line| line.contains("flanneld.service"))
        .collect();
    assert!(ours.is_empty(), "{complaints}");
    assert!(text.contains("\nType=notify\n") && text.contains("\nTimeoutStartSec=30\n"));
    let before = text.lines().find(|line| line.starts_with("Before="));
    for runtime in ["containerd", "crio", "podman", "kubelet"] {
        let unit = format!("{runtime}.service");
        assert!(before.is_some_and(|line| line.contains(&unit)), "{unit}");
    }
}
