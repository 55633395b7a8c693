use super::{
    conf,
    error::Error,
    folder::{Content, Folder, Put, TakenBack},
    plugins, uninstall,
};
use crate::cli::commands::{InstallCni, InstallConf, UninstallCni};
use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn content(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn put(folder: &TempDir, name: &str, content: &str) -> Put {
    let mut folder = Folder::create(folder.path()).unwrap();
    let content = Content::new(content.into(), 0o644);
    folder.put(name, &content).unwrap()
}

fn take_back(folder: &TempDir, name: &str) -> TakenBack {
    let mut folder = Folder::existing(folder.path()).unwrap().unwrap();
    let taken = folder.take_back(name).unwrap();
    folder.remove_record().unwrap();
    taken
}

#[test]
fn a_new_file_is_removed_again() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(put(&folder, "a", "1"), Put::Installed);
    assert_eq!(put(&folder, "a", "1"), Put::Unchanged);
    assert_eq!(put(&folder, "a", "2"), Put::Updated);
    assert_eq!(names(folder.path()), [".flanneld-installed", "a"]);
    assert_eq!(take_back(&folder, "a"), TakenBack::Removed);
    assert_eq!(names(folder.path()), [""; 0]);
    assert_eq!(take_back(&folder, "a"), TakenBack::Nothing);
}

#[test]
fn the_latest_file_of_another_origin_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    for theirs in ["first", "second"] {
        fs::write(&file, theirs).unwrap();
        assert_eq!(put(&folder, "a", "ours"), Put::Replaced);
        assert_eq!(put(&folder, "a", "ours, newer"), Put::Updated);
    }
    assert_eq!(take_back(&folder, "a"), TakenBack::Restored);
    assert_eq!(content(file), "second");
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn a_symbolic_link_is_kept_as_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flannel");
    fs::write(folder.path().join("cni-suite"), "suite").unwrap();
    symlink("cni-suite", &file).unwrap();
    assert_eq!(put(&folder, "flannel", "suite"), Put::Replaced);
    fs::write(&file, "overwritten in place").unwrap();
    assert_eq!(content(folder.path().join("cni-suite")), "suite");
    assert_eq!(put(&folder, "flannel", "suite"), Put::Replaced);
    assert_eq!(take_back(&folder, "flannel"), TakenBack::Restored);
    assert_eq!(content(file), "overwritten in place");
}

#[test]
fn a_file_that_was_changed_since_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    fs::write(&file, "before").unwrap();
    put(&folder, "a", "ours");
    fs::write(&file, "edited").unwrap();
    assert_eq!(take_back(&folder, "a"), TakenBack::Left);
    assert_eq!(content(file), "edited");
    assert_eq!(names(folder.path()), ["a", "a.before-flanneld"]);
}

#[test]
fn what_a_killed_run_left_is_replaced_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    fs::write(&file, "theirs").unwrap();
    // killed after the kept file and before the new one
    fs::hard_link(&file, folder.path().join("a.before-flanneld")).unwrap();
    for name in [
        ".a.tmp",
        ".a.before-flanneld.tmp",
        "..flanneld-installed.tmp",
    ] {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    assert_eq!(take_back(&folder, "a"), TakenBack::Left);
    assert_eq!(names(folder.path()), ["a"]);
    fs::hard_link(&file, folder.path().join("a.before-flanneld")).unwrap();
    for name in [".a.tmp", ".a.before-flanneld.tmp"] {
        fs::write(folder.path().join(name), "longer than the new content").unwrap();
    }
    assert_eq!(put(&folder, "a", "ours"), Put::Replaced);
    assert_eq!(content(file), "ours");
    assert_eq!(
        names(folder.path()),
        [".flanneld-installed", "a", "a.before-flanneld"]
    );
}

#[test]
fn a_damaged_record_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "a", "ours");
    fs::write(folder.path().join(".flanneld-installed"), b"\xff../x  \0").unwrap();
    assert_eq!(put(&folder, "a", "newer"), Put::Replaced);
    assert_eq!(content(folder.path().join("a")), "newer");
}

#[test]
fn a_folder_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    let content = Content::new(b"x".into(), 0o644);
    let error = Folder::create(folder.path()).unwrap().put("a", &content);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("/a: it is there and is not a file"),
        "{error}"
    );
}

/// A file that begins like an executable of this machine.
fn executable(folder: &Path) -> PathBuf {
    let mut header = [0; 64];
    let mut own = fs::File::open("/proc/self/exe").unwrap();
    own.read_exact(&mut header).unwrap();
    let path = folder.join("cni-suite");
    fs::write(&path, header).unwrap();
    path
}

fn options(folder: &Path, plugins: &str, replace: &str) -> InstallCni {
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    InstallCni {
        bin_dir: folder.join("bin"),
        plugins: list(plugins),
        replace: list(replace),
        source: Some(executable(folder)),
    }
}

#[test]
fn only_missing_plugins_and_the_named_ones_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["flannel", "bridge", "dhcp"] {
        fs::write(bin.join(name), "theirs").unwrap();
    }
    let lines = plugins::install(&options(
        folder.path(),
        "flannel,bridge,loopback",
        "flannel",
    ));
    let bin_text = bin.display();
    assert_eq!(
        lines.unwrap(),
        [
            format!("{bin_text}/bridge (left: of another origin)"),
            format!("{bin_text}/loopback (installed)"),
            format!(
                "{bin_text}/flannel (installed; what was there is {bin_text}/flannel.before-flanneld)"
            ),
        ]
    );
    let installed = fs::metadata(bin.join("loopback")).unwrap();
    assert_eq!(installed.permissions().mode() & 0o7777, 0o755);
    assert_eq!(
        installed.nlink(),
        1,
        "writing to one plugin changes no other"
    );
    assert_eq!(content(bin.join("bridge")), "theirs");

    let lines = plugins::install(&options(folder.path(), "all", "all")).unwrap();
    assert_eq!(lines.len(), 9, "{lines:?}");
    assert!(lines[8].ends_with("/flannel (unchanged)"), "{lines:?}");
    assert_eq!(content(bin.join("dhcp")), "theirs");

    let (bin_dir, conf_dir) = (bin.clone(), folder.path().join("no-such-folder"));
    uninstall::take_back(&UninstallCni { bin_dir, conf_dir }).unwrap();
    assert_eq!(names(&bin), ["bridge", "dhcp", "flannel"]);
    assert!(
        names(&bin)
            .iter()
            .all(|name| content(bin.join(name)) == "theirs")
    );
}

#[test]
fn names_and_executables_are_checked_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let error = |options| plugins::install(&options).unwrap_err().to_string();
    let unknown = error(options(folder.path(), "flannel,brigde", "none"));
    assert!(
        unknown.starts_with(r#"-plugins: "brigde" is not a plugin"#),
        "{unknown}"
    );
    let unknown = error(options(folder.path(), "all", "x"));
    assert!(unknown.starts_with(r#"-replace: "x""#), "{unknown}");
    let source = Some("/etc/passwd".into());
    let script = error(InstallCni {
        source,
        ..options(folder.path(), "all", "none")
    });
    assert_eq!(
        script,
        "/etc/passwd: not a Linux executable; nothing is installed"
    );
    assert!(!folder.path().join("bin").exists());
}

fn conf_file(folder: &Path, text: &[u8]) -> InstallConf {
    let source = folder.join("cni-conf.json");
    fs::write(&source, text).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).unwrap();
    InstallConf {
        source,
        destination: folder.join("net.d/10-flannel.conflist"),
    }
}

#[test]
fn a_configuration_has_the_mode_of_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let options = conf_file(folder.path(), b"{}");
    conf::install(&options).unwrap();
    let installed = fs::metadata(&options.destination).unwrap();
    assert_eq!(installed.permissions().mode() & 0o7777, 0o640);
    assert_eq!(content(options.destination), "{}");
}

#[test]
fn what_no_runtime_reads_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = conf_file(folder.path(), b"{\"name\":\"cbr0\"}");
    conf::install(&options).unwrap();
    for bad in [b"".as_slice(), b"{\"name\":", b"[]", b"<html>"] {
        let error = conf::install(&conf_file(folder.path(), bad)).unwrap_err();
        assert!(matches!(error, Error::Json { .. }), "{error}");
    }
    let large = conf_file(folder.path(), &vec![b' '; (1 << 20) + 1]);
    let error = conf::install(&large).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(content(options.destination), "{\"name\":\"cbr0\"}");
}
