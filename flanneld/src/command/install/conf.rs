//! `install-conf`: a configuration file into a folder that the container runtime reads.

use super::{
    error::Error,
    finish,
    folder::{Content, Folder, read_error},
    plugins::describe,
};
use crate::cli::commands::InstallConf;
use serde::de::IgnoredAny;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// A ConfigMap has at most 1 MiB.
const LIMIT: u64 = 1 << 20;
/// Files with these extensions are read by container runtimes (libcni, ConfFiles).
const JSON: [&str; 3] = ["conf", "conflist", "json"];

/// Copies SRC to DST.
pub(in crate::command) fn conf(options: &InstallConf) -> ExitCode {
    finish(install(options))
}

pub(super) fn install(options: &InstallConf) -> Result<Vec<String>, Error> {
    let (source, destination) = (&options.source, &options.destination);
    let name = destination.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::NoName {
        path: destination.clone(),
    })?;
    let (content, mode) = read(source)?;
    check_json(source, destination, &content)?;
    let folder = match destination.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let put = Folder::create(&folder)?.put(name, &Content::new(content, mode))?;
    Ok(vec![describe(destination, put)])
}

/// The content and the permission bits.
fn read(source: &Path) -> Result<(Vec<u8>, u32), Error> {
    let file = File::open(source).map_err(read_error(source))?;
    let metadata = file.metadata().map_err(read_error(source))?;
    let mut content = Vec::new();
    let read = file.take(LIMIT + 1).read_to_end(&mut content);
    if read.map_err(read_error(source))? as u64 > LIMIT {
        let (path, limit) = (source.to_owned(), LIMIT);
        return Err(Error::TooLarge { path, limit });
    }
    Ok((content, metadata.permissions().mode() & 0o7777))
}

/// A runtime that cannot read a file has no network: such a file replaces nothing.
pub(super) fn check_json(source: &Path, destination: &Path, content: &[u8]) -> Result<(), Error> {
    let extension = destination.extension().and_then(|text| text.to_str());
    if !extension.is_some_and(|extension| JSON.contains(&extension)) {
        return Ok(());
    }
    match serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(content) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Json {
            source_file: source.to_owned(),
            destination: destination.to_owned(),
            source: error,
        }),
    }
}
