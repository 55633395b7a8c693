//! The settings that a link had before ADD: `<dataDir>/<container id>_<interface>.json`, named as the Go plugin names it.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use cni_conf::{Attachment, Error};
use plugin::Call;

use crate::{conf::Conf, settings::Settings};

/// Whose the backup is; the Go plugin ignores the key.
const NETWORK: &str = "network";

fn path(conf: &Conf, container_id: &str, ifname: &str) -> PathBuf {
    PathBuf::from(conf.data_dir()).join(format!("{container_id}_{ifname}.json"))
}

/// Writes it whole; a first backup is not overwritten by a repeated ADD.
pub fn save(conf: &Conf, call: &Call, before: &Settings) -> Result<(), Error> {
    let path = path(conf, &call.container_id, &call.ifname);
    let failed = |error: io::Error| Error::internal(format!("{}: {error}", path.display()));
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(conf.data_dir()).map_err(failed)?;
    let new = path.with_extension("new");
    let mut content = serde_json::to_value(before).map_err(Error::internal)?;
    content[NETWORK] = call.net.name.as_str().into();
    fs::write(&new, content.to_string()).map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)
}

/// Reads and removes it. None if there is none, or if what is there cannot be read: then there is nothing to go back to.
pub fn take(conf: &Conf, call: &Call) -> Result<Option<Settings>, Error> {
    let path = path(conf, &call.container_id, &call.ifname);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::internal(format!("{}: {error}", path.display()))),
    };
    fs::remove_file(&path)
        .map_err(|error| Error::internal(format!("{}: {error}", path.display())))?;
    Ok(cni_conf::go_json::from_slice(&text).ok())
}

/// GC: removes this network's backups that no valid attachment owns. The folder is shared by all networks, so one that does
/// not say whose it is (the Go plugin's) stays.
pub fn collect(conf: &Conf, network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let failed = |error: io::Error| Error::internal(format!("{}: {error}", conf.data_dir()));
    let entries = match fs::read_dir(conf.data_dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let owned: Vec<_> = valid
        .iter()
        .map(|one| path(conf, &one.container_id, &one.ifname))
        .collect();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        if !owned.contains(&file) && network_of(&file).as_deref() == Some(network) {
            fs::remove_file(&file).map_err(failed)?;
        }
    }
    Ok(())
}

fn network_of(file: &Path) -> Option<String> {
    let content: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    content[NETWORK].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_only_what_is_this_network_s() {
        let dir = tempfile::tempdir().unwrap();
        let conf: Conf =
            serde_json::from_value(serde_json::json!({ "dataDir": dir.path() })).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("gone_eth0.json", r#"{"mtu":1400,"network":"a"}"#);
        write("lives_eth0.json", r#"{"mtu":1400,"network":"a"}"#);
        write("other_eth0.json", r#"{"mtu":1400,"network":"b"}"#);
        write("go_eth0.json", r#"{"mtu":1400}"#);
        let valid = [Attachment {
            container_id: "lives".into(),
            ifname: "eth0".into(),
        }];
        collect(&conf, "a", &valid).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["go_eth0.json", "lives_eth0.json", "other_eth0.json"]);
    }
}
