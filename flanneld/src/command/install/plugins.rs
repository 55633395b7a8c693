//! `install-cni`: which plugins are installed, and over what.

use super::{
    elf,
    error::Error,
    finish,
    folder::{Content, Folder, KEPT_SUFFIX, Present, Put, read_error, write_error},
};
use crate::cli::commands::InstallCni;
use nix::sys::statvfs::statvfs;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The executable that is all plugins by its name.
const SUITE: &str = "cni-suite";
/// The plugin that delegates to others.
const META_PLUGIN: &str = "flannel";
/// The plugins of the suite.
const NAMES: &str = include_str!("../../../../plugins/suite/names");
const MODE: u32 = 0o755;
/// Bytes that stay free for the record and the folder.
const SPARE: u64 = 64 * 1024;

/// Installs the plugins.
pub(in crate::command) fn cni(options: &InstallCni) -> ExitCode {
    finish(install(options))
}

pub(super) fn install(options: &InstallCni) -> Result<Vec<String>, Error> {
    let plugins = selected("plugins", &options.plugins)?;
    let replace = selected("replace", &options.replace)?;
    let source = source(options)?;
    let bytes = fs::read(&source).map_err(read_error(&source))?;
    elf::check(&bytes).map_err(|reason| Error::Executable {
        path: source,
        reason,
    })?;
    let content = Content::new(bytes, MODE);
    let mut folder = Folder::create(&options.bin_dir)?;
    let (mut install, mut lines) = (Vec::new(), Vec::new());
    for name in plugins {
        let present = folder.present(name)?;
        if is_installed_over(&present, name, &replace) {
            install.push((name, !present.is(&content)));
        } else {
            let file = folder.file(name);
            lines.push(format!("{} (left: of another origin)", file.display()));
        }
    }
    let changed = install.iter().filter(|(_, changes)| *changes).count();
    check_space(&options.bin_dir, changed as u64 * content.len())?;
    for (name, _) in install {
        let put = folder.put(name, &content)?;
        lines.push(describe(&folder.file(name), put));
    }
    Ok(lines)
}

/// The given names or all of them, `flannel` last: it needs the others.
fn selected(flag: &'static str, given: &[String]) -> Result<Vec<&'static str>, Error> {
    let mut known: Vec<_> = NAMES.split_whitespace().collect();
    known.sort_by_key(|name| *name == META_PLUGIN);
    let given: Vec<_> = given.iter().map(|name| name.trim()).collect();
    if let Some(unknown) = given
        .iter()
        .find(|name| !known.contains(name) && !matches!(**name, "all" | "none" | ""))
    {
        let name = unknown.to_string();
        return Err(Error::UnknownPlugin { flag, name, known });
    }
    known.retain(|name| given.contains(&"all") || given.contains(name));
    Ok(known)
}

fn is_installed_over(present: &Present, name: &str, replace: &[&str]) -> bool {
    match present {
        Present::Absent | Present::Ours { .. } => true,
        Present::Foreign { .. } => replace.contains(&name),
    }
}

fn source(options: &InstallCni) -> Result<PathBuf, Error> {
    if let Some(source) = &options.source {
        return Ok(source.clone());
    }
    let own = std::env::current_exe().map_err(read_error(Path::new("/proc/self/exe")))?;
    Ok(own.with_file_name(SUITE))
}

/// Fails before anything is written.
fn check_space(folder: &Path, bytes: u64) -> Result<(), Error> {
    if bytes == 0 {
        return Ok(());
    }
    let system = statvfs(folder).map_err(|error| write_error(folder)(error.into()))?;
    // the types of these fields differ between targets
    #[allow(clippy::unnecessary_cast, reason = "u32 on 32-bit targets")]
    let free = system.blocks_available() as u64 * system.fragment_size() as u64;
    let needed = bytes + SPARE;
    if free < needed {
        let folder = folder.to_owned();
        return Err(Error::Space {
            folder,
            needed,
            free,
        });
    }
    Ok(())
}

/// The line that is printed for a file.
pub(super) fn describe(file: &Path, put: Put) -> String {
    let file = file.display();
    match put {
        Put::Installed => format!("{file} (installed)"),
        Put::Updated => format!("{file} (updated)"),
        Put::Replaced => format!("{file} (installed; what was there is {file}{KEPT_SUFFIX})"),
        Put::Unchanged => format!("{file} (unchanged)"),
    }
}
