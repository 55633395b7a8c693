//! Finds the configuration list of a network by its name (upstream: libcni LoadNetworkConf).

use crate::conf_list::ConfList;
use cni_conf::{Code, Error};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Longest configuration that is read, in bytes, as by the plugins.
const MAX_LEN: u64 = 16 << 20;

pub(crate) fn load(dir: &Path, name: &str) -> Result<ConfList, Error> {
    let files = files(dir)?;
    let lists = files
        .iter()
        .filter(|file| has_extension(file, &["conflist"]));
    let single = files
        .iter()
        .filter(|file| has_extension(file, &["conf", "json"]));
    let mut unreadable = None;
    for file in lists.chain(single) {
        match read(file) {
            Ok(list) if list.name == name => return Ok(list),
            Ok(_) => {}
            Err(error) => unreadable = unreadable.or(Some(error)),
        }
    }
    let absent = match files.is_empty() {
        true => format!("no net configurations found in {}", dir.display()),
        false => format!(
            "no net configuration with name \"{name}\" in {}",
            dir.display()
        ),
    };
    let error = Error::new(Code::InvalidNetworkConfig, absent);
    Err(match unreadable {
        None => error,
        Some(cause) => error.details(format!("another file of that folder is invalid: {cause}")),
    })
}

fn read(file: &Path) -> Result<ConfList, Error> {
    let place = format!("error reading {}", file.display());
    let bytes = atomic_file::read_whole(file, MAX_LEN)
        .map_err(|error| Error::new(Code::Io, format!("{place}: {error}")))?;
    ConfList::parse(&bytes, has_extension(file, &["conflist"]))
        .map_err(|error| error.context(place))
}

/// Files that may be configurations, in lexical order; none if the folder does not exist.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed =
        |error: io::Error| Error::new(Code::Io, format!("open {}: {error}", dir.display()));
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        if has_extension(&file, &["conflist", "conf", "json"]) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn has_extension(file: &Path, extensions: &[&str]) -> bool {
    (file.extension().and_then(|e| e.to_str())).is_some_and(|e| extensions.contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::write;

    #[test]
    fn lists_come_first_and_broken_files_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| write(dir.path().join(name), text).unwrap();
        let message = |name| load(dir.path(), name).unwrap_err();
        assert!(
            message("a")
                .msg
                .starts_with("no net configurations found in ")
        );

        put("00-broken.conflist", "{");
        put("05-one.conf", r#"{"name":"a","type":"single"}"#);
        put(
            "20-a.conflist",
            r#"{"name":"a","plugins":[{"type":"second"}]}"#,
        );
        put(
            "10-a.conflist",
            r#"{"name":"a","plugins":[{"type":"first"}]}"#,
        );
        put(
            "30-b.json",
            r#"{"name":"b","type":"single","cniVersion":"1.0.0"}"#,
        );
        put("40-c.txt", r#"{"name":"c","type":"x"}"#);
        assert_eq!(load(dir.path(), "a").unwrap().plugins[0]["type"], "first");
        let single = load(dir.path(), "b").unwrap();
        assert_eq!(single.plugins[0]["type"], "single");
        assert_eq!(single.cni_version, "1.0.0");

        let error = message("c");
        assert!(
            error
                .msg
                .starts_with("no net configuration with name \"c\" in ")
        );
        assert!(error.details.contains("00-broken.conflist"), "{error}");
    }

    #[test]
    fn missing_folder_has_no_configurations() {
        let error = load(Path::new("/nowhere/net.d"), "a").unwrap_err();
        assert_eq!(error.msg, "no net configurations found in /nowhere/net.d");
    }
}
