//! Which addresses an attachment's rules are for. Rules do not say whose they are, so ADD notes it in
//! `/run/cni/firewall/<container>_<ifname>.json`: DEL then needs no prevResult, and GC finds what nobody owns.
use cni_conf::{Error, GcAttachment};
use plugin::state::StateFolder;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

const FOLDER: &str = "/run/cni/firewall";

/// One note.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    network: String,
    zone: String,
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

    pub(crate) fn zone(&self) -> &str {
        &self.zone
    }

    /// What is no address by now is left out.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.ips
            .iter()
            .filter_map(|ip| go_compat::cidr::parse_ip(ip).ok())
            .collect()
    }
}

/// A note that belongs to nobody any more.
pub(crate) struct Stale {
    pub(crate) file: PathBuf,
    pub(crate) record: Record,
}

/// All notes.
pub(crate) struct Owned(StateFolder);

impl Default for Owned {
    fn default() -> Self {
        Owned(StateFolder::new(FOLDER))
    }
}

impl Owned {
    pub(crate) fn write(
        &self,
        container: &str,
        ifname: &str,
        record: &Record,
    ) -> Result<(), Error> {
        self.0.write(&self.0.file(container, ifname), record)
    }

    pub(crate) fn read(&self, container: &str, ifname: &str) -> Result<Option<Record>, Error> {
        self.0.read(&self.0.file(container, ifname))
    }

    pub(crate) fn remove(&self, container: &str, ifname: &str) -> Result<(), Error> {
        self.forget(&self.0.file(container, ifname))
    }

    pub(crate) fn forget(&self, file: &Path) -> Result<(), Error> {
        self.0.remove(file)
    }

    pub(crate) fn claimed_by_others(
        &self,
        container: &str,
        ifname: &str,
    ) -> Result<Vec<IpAddr>, Error> {
        self.claimed_by_all_but(&self.0.file(container, ifname))
    }

    pub(crate) fn claimed_by_all_but(&self, file: &Path) -> Result<Vec<IpAddr>, Error> {
        let mut all = self.0.all::<Record>()?;
        all.retain(|(other, _)| other != file);
        Ok(all
            .iter()
            .flat_map(|(_, record)| record.addresses())
            .collect())
    }

    /// The network's notes that no valid attachment has.
    pub(crate) fn without_owner(
        &self,
        network: &str,
        valid: &[GcAttachment],
    ) -> Result<Vec<Stale>, Error> {
        let all = self.0.without_owner::<Record>(valid)?.into_iter();
        Ok(all
            .filter(|(_, record)| record.network == network)
            .map(|(file, record)| Stale { file, record })
            .collect())
    }
}
