//! Which addresses an attachment's rules are for. Rules do not name their attachment, so ADD writes
//! it to `/run/cni/firewall/<container>_<ifname>.json`: DEL then needs no prevResult, and GC finds
//! rules without an owner.

use cni_conf::Error;
use plugin::{Attachment, state::StateFolder};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    network: String,
    pub(crate) zone: String,
    ips: Vec<String>,
}

impl Record {
    pub(crate) fn new(network: &str, zone: &str, ips: &[IpAddr]) -> Record {
        Record {
            network: network.to_owned(),
            zone: zone.to_owned(),
            ips: ips.iter().map(IpAddr::to_string).collect(),
        }
    }

    /// Ignores entries of a damaged file that are no address.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let parsed = self.ips.iter().map(|ip| go_compat::cidr::parse_ip(ip));
        parsed.flatten().collect()
    }
}

pub(crate) fn folder() -> StateFolder {
    StateFolder::new("/run/cni/firewall")
}

/// The addresses in all records except that in `file`.
pub(crate) fn addresses_of_others(folder: &StateFolder, file: &Path) -> Result<Vec<IpAddr>, Error> {
    let all = folder.all::<Record>()?.into_iter();
    let others = all.filter(|(other, _)| other != file);
    Ok(others.flat_map(|(_, record)| record.addresses()).collect())
}

/// The network's records that belong to no valid attachment.
pub(crate) fn stale(
    folder: &StateFolder,
    network: &str,
    valid: &[Attachment],
) -> Result<Vec<(PathBuf, Record)>, Error> {
    let mut stale = folder.without_owner::<Record>(valid)?;
    stale.retain(|(_, record)| record.network == network);
    Ok(stale)
}
