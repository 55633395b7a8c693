//! What an interface was like before ADD: `<dataDir>/<container>_<ifname>.json`, in upstream's form, with the network's name as
//! one more key, so that GC knows whose it is.
use crate::conf::{Settings, parse_mac};
use cni_conf::{Attachment, Code, Error, go_json};
use linux_net::link::{Change, Link};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The file's content.
#[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Backup {
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    tx_queue_len: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    network: String,
}

// serde hands over a reference
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Where the backup of an attachment is.
pub(crate) fn file(data_dir: &Path, container_id: &str, ifname: &str) -> PathBuf {
    data_dir.join(format!("{container_id}_{ifname}.json"))
}

impl Backup {
    /// Those settings of `link` that `wanted` is going to change.
    pub(crate) fn of(network: &str, wanted: &Settings, link: &Link) -> Backup {
        let mac = wanted.mac.as_ref().and(link.mac);
        Backup {
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            promisc: wanted.promisc.then_some(link.promisc),
            mtu: wanted.mtu.map_or(0, |_| link.mtu),
            allmulti: wanted.allmulti.map(|_| link.allmulti),
            tx_queue_len: wanted.tx_queue_len.map(|_| link.txqlen),
            network: network.to_owned(),
        }
    }

    /// As a request's content.
    pub(crate) fn change(&self) -> Result<Change, Error> {
        let mac = (!self.mac.is_empty())
            .then(|| parse_mac(&self.mac))
            .transpose()?;
        Ok(Change {
            mac,
            promisc: self.promisc,
            mtu: (self.mtu != 0).then_some(self.mtu),
            allmulti: self.allmulti,
            txqlen: self.tx_queue_len,
            ..Change::default()
        })
    }

    /// Whole: written beside its place and renamed into it. /run does not outlive a power loss, so nothing is synced. A second
    /// ADD of an attachment finds what the first one made of the interface, so the first one's backup stays.
    pub(crate) fn write(&self, file: &Path) -> Result<(), Error> {
        if file.exists() {
            return Ok(());
        }
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(
                Code::Io,
                format!("failed to save file {}: {error}", file.display()),
            )
        };
        let text = text(self).map_err(|error| failed(&error))?;
        let new = file.with_extension("new");
        create_folder(file)
            .and_then(|()| {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                options.open(&new)?.write_all(&text)
            })
            .and_then(|()| fs::rename(&new, file))
            .map_err(|error| failed(&error))
    }

    /// None where there is none. One that makes no sense is as good as none, and goes.
    pub(crate) fn read(file: &Path) -> Result<Option<Backup>, Error> {
        match fs::read(file) {
            Ok(bytes) => match go_json::from_slice(&bytes) {
                Ok(backup) => Ok(Some(backup)),
                Err(_) => remove(file).map(|()| None),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(
                Code::Io,
                format!(
                    "failed to open file {:?}: {error}",
                    file.display().to_string()
                ),
            )),
        }
    }
}

/// One space of indentation, as upstream writes it.
fn text(backup: &Backup) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    let indented = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indented);
    serde::Serialize::serialize(backup, &mut serializer)?;
    Ok(text)
}

fn create_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Forgets it; one that is gone already is no error.
pub(crate) fn remove(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::new(
            Code::Io,
            format!("failed to remove file {}: {error}", file.display()),
        )),
        _ => Ok(()),
    }
}

/// Removes the network's backups that belong to no valid attachment. Upstream's do not tell their network and stay.
pub(crate) fn collect(data_dir: &Path, network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let entries = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| {
            Error::new(Code::Io, format!("open {}: {error}", data_dir.display()))
        })?,
    };
    let valid: Vec<_> = valid
        .iter()
        .map(|one| file(data_dir, &one.container_id, &one.ifname))
        .collect();
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = || {
            let backup: Option<Backup> = fs::read(&path)
                .ok()
                .and_then(|b| go_json::from_slice(&b).ok());
            backup.is_some_and(|backup| backup.network == network)
        };
        if path.extension().is_some_and(|e| e == "json") && !valid.contains(&path) && ours() {
            remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_form() {
        let backup = Backup {
            mac: "00:00:5e:00:53:af".into(),
            promisc: Some(false),
            mtu: 1500,
            ..Backup::default()
        };
        assert_eq!(
            String::from_utf8(text(&backup).unwrap()).unwrap(),
            "{\n \"mac\": \"00:00:5e:00:53:af\",\n \"promisc\": false,\n \"mtu\": 1500\n}"
        );
    }

    #[test]
    fn kept_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let at = |id: &str| file(&data_dir, id, "eth0");
        let backup = |network: &str| Backup {
            tx_queue_len: Some(0),
            network: network.into(),
            ..Backup::default()
        };
        for (id, network) in [("c1", "net"), ("c2", "net"), ("c3", "other"), ("c4", "")] {
            backup(network).write(&at(id)).unwrap();
        }
        assert_eq!(Backup::read(&at("c1")), Ok(Some(backup("net"))));
        let valid = [Attachment {
            container_id: "c1".into(),
            ifname: "eth0".into(),
        }];
        collect(&data_dir, "net", &valid).unwrap();
        let left: Vec<_> = ["c1", "c2", "c3", "c4"].map(|id| at(id).exists()).into();
        assert_eq!(left, [true, false, true, true]);
        remove(&at("c1")).unwrap();
        remove(&at("c1")).unwrap();
        assert_eq!(Backup::read(&at("c1")), Ok(None));
        fs::write(at("c1"), "{").unwrap();
        assert_eq!(Backup::read(&at("c1")), Ok(None));
        assert!(!at("c1").exists());
    }
}
