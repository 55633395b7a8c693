//! What an interface was like before ADD, in upstream's form, with the network's name as one more key, so that GC knows whose it
//! is.
use crate::conf::{Settings, parse_mac};
use cni_conf::{Error, GcAttachment};
use linux_net::link::{Change, Link};
use plugin::state::StateFolder;

/// A backup file's content.
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
}

/// Removes the network's backups that belong to no valid attachment. Upstream's do not tell their network and stay.
pub(crate) fn collect(
    folder: &StateFolder,
    network: &str,
    valid: &[GcAttachment],
) -> Result<(), Error> {
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
    fn upstreams_form() {
        let backup = Backup {
            mac: "00:00:5e:00:53:af".into(),
            promisc: Some(false),
            mtu: 1500,
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
    fn collects_only_what_is_this_networks() {
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
        let valid = [GcAttachment {
            container_id: "c1".into(),
            ifname: "eth0".into(),
        }];
        collect(&folder, "net", &valid).unwrap();
        let left: Vec<_> = ["c1", "c2", "c3", "c4"].map(|id| at(id).exists()).into();
        assert_eq!(left, [true, false, true, true]);
    }
}
