//! Programs of other makes that scenarios and benchmarks run beside ours.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of Debian's package containernetworking-plugins: the Go plugins, version 1.1.1.
pub const GO_PLUGINS: &str = "/usr/lib/cni";

/// The reason to skip where Debian's Go plugins are missing.
pub fn without_go_plugins() -> Option<String> {
    let missing = !Path::new(GO_PLUGINS).join("bridge").exists();
    missing.then(|| format!("no {GO_PLUGINS}/bridge (Debian package containernetworking-plugins)"))
}

/// The folder of the programs that `scripts/go-peer` built from the module pinned in
/// `tests/peers/NAME`. The error is the reason to skip.
///
/// `$GO_PEERS` is a folder with all of them in a machine without Go.
pub fn built_from_go(name: &str) -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os("GO_PEERS") {
        let folder = Path::new(&folder).join(name);
        return match folder.is_dir() {
            true => Ok(folder),
            false => Err(format!("{} is missing", folder.display())),
        };
    }
    let folder = folder_of("go-peer", name)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let why_not = folder.with_extension("why-not");
    Err(match fs::read_to_string(why_not) {
        Ok(reason) => reason.trim().to_owned(),
        Err(_) => format!("not built yet: scripts/go-peer build {name}"),
    })
}

/// The folder of the commands that `scripts/python-peer` installed from
/// `tests/peers/NAME/requirements.txt`. The error is the reason to skip.
pub fn installed_from_python(name: &str) -> Result<PathBuf, String> {
    let folder = folder_of("python-peer", name)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let why_not = folder.parent().unwrap_or(&folder).with_extension("why-not");
    Err(match fs::read_to_string(why_not) {
        Ok(reason) => reason.trim().to_owned(),
        Err(_) => format!("not installed yet: scripts/python-peer build {name}"),
    })
}

/// The folder that `scripts/SCRIPT path NAME` prints; it need not be there.
fn folder_of(script: &str, name: &str) -> Result<PathBuf, String> {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");
    let script = Path::new(scripts).join(script);
    let output = Command::new(&script)
        .args(["path", name])
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// The folder with the source of a Go module that `tests/peers/PEER` pins, where Go has downloaded
/// it. The error is the reason to skip.
pub fn go_module(peer: &str, module: &str) -> Result<PathBuf, String> {
    let pins = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
    let output = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", module])
        .current_dir(Path::new(pins).join(peer))
        .envs([("GOPROXY", "off"), ("GOTOOLCHAIN", "local")])
        .envs([("GOWORK", "off"), ("GOFLAGS", "-mod=readonly")])
        .output()
        .map_err(|_| "Go is not installed".to_owned())?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !folder.is_empty() {
        return Ok(PathBuf::from(folder));
    }
    Err(format!(
        "the source of {module} is not at hand: scripts/go-peer build {peer}"
    ))
}

/// The folder of `$KUBEBUILDER_ASSETS`: kube-apiserver, etcd and kubectl of another build.
fn assets() -> Option<PathBuf> {
    env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from)
}

/// The path of a program: in `$KUBEBUILDER_ASSETS` if it is there, else its name, which the
/// operating system looks up in `$PATH`.
pub fn program(name: &str) -> PathBuf {
    let asset = assets().map(|folder| folder.join(name));
    asset
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// The path of the etcd behind the API server: the version that Kubernetes pins, where
/// `scripts/go-peer` built it, because the streaming list needs 3.4.25 or newer; else [`program`].
pub fn etcd_of_kubernetes() -> PathBuf {
    // the package of etcd's program is named server
    match built_from_go("kube-apiserver") {
        Ok(folder) if assets().is_none() => folder.join("server"),
        _ => program("etcd"),
    }
}

/// The reason to skip where [`program`] finds nothing.
pub fn without_program(name: &str, package: &str) -> Option<String> {
    let path = program(name);
    let folders = env::var_os("PATH").unwrap_or_default();
    let found =
        path.is_absolute() || env::split_paths(&folders).any(|folder| folder.join(&path).exists());
    (!found).then(|| format!("no {name} (Debian package {package})"))
}

/// The path of kube-apiserver: `$KUBEBUILDER_ASSETS`, or what `scripts/go-peer` built. The error is
/// the reason to skip.
pub fn kube_apiserver() -> Result<PathBuf, String> {
    let Some(folder) = assets() else {
        return Ok(built_from_go("kube-apiserver")?.join("kube-apiserver"));
    };
    let path = folder.join("kube-apiserver");
    if path.exists() {
        return Ok(path);
    }
    Err(format!(
        "KUBEBUILDER_ASSETS: there is no {}",
        path.display()
    ))
}
