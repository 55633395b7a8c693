//! The interface's settings before ADD, as a file in upstream's format with one more key: the
//! network's name, by which GC finds its own files.

use crate::{
    conf::{Settings, parse_mac},
    error::Failure,
};
use linux_net::link::{Change, Link};
use plugin::{Attachment, state::StateFolder};

#[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Backup {
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    tx_queue_len: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    network: String,
}

impl Backup {
    /// The settings of `link` that `wanted` changes.
    pub(crate) fn new(network: &str, wanted: &Settings, link: &Link) -> Backup {
        let mac = wanted.mac.as_ref().and(link.mac);
        Backup {
            mac: mac.map(|mac| mac.to_string()),
            promisc: wanted.promisc.then_some(link.promisc),
            mtu: wanted.mtu.map(|_| link.mtu),
            allmulti: wanted.allmulti.map(|_| link.allmulti),
            tx_queue_len: wanted.tx_queue_len.map(|_| link.txqlen),
            network: network.to_owned(),
        }
    }

    /// The change that restores them.
    pub(crate) fn change(&self) -> Result<Change, Failure> {
        Ok(Change {
            mac: self.mac.as_deref().map(parse_mac).transpose()?,
            promisc: self.promisc,
            mtu: self.mtu,
            allmulti: self.allmulti,
            txqlen: self.tx_queue_len,
            ..Change::default()
        })
    }
}

/// Removes the network's backups that belong to no valid attachment. Upstream's do not name a
/// network and stay.
pub(crate) fn collect(
    folder: &StateFolder,
    network: &str,
    valid: &[Attachment],
) -> Result<(), Failure> {
    for (file, backup) in folder.without_owner::<Backup>(valid)? {
        if backup.network == network {
            folder.remove(&file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn file_has_upstreams_format() {
        let backup = Backup {
            mac: Some("00:00:5e:00:53:af".into()),
            promisc: Some(false),
            mtu: Some(1500),
            ..Backup::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::new(dir.path());
        let file = folder.file("c1", "eth0");
        folder.write(&file, &backup).unwrap();
        assert_eq!(
            fs::read_to_string(file).unwrap(),
            "{\n \"mac\": \"00:00:5e:00:53:af\",\n \"promisc\": false,\n \"mtu\": 1500\n}"
        );
    }

    #[test]
    fn gc_removes_only_backups_of_its_network_without_valid_attachment() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::new(dir.path());
        let at = |id: &str| folder.file(id, "eth0");
        for (id, network) in [("c1", "net"), ("c2", "net"), ("c3", "other"), ("c4", "")] {
            let backup = Backup {
                tx_queue_len: Some(0),
                network: network.into(),
                ..Backup::default()
            };
            folder.write(&at(id), &backup).unwrap();
        }
        let valid = [Attachment::new("net", "c1", "eth0")];
        collect(&folder, "net", &valid).unwrap();
        let left: Vec<_> = ["c1", "c2", "c3", "c4"].map(|id| at(id).exists()).into();
        assert_eq!(left, [true, false, true, true]);
    }
}
