//! The state files of all attachments, for a caller that no runtime started.

use crate::state::{Entry, State, list};
use plugin::Attachment;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The state file of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFile {
    /// Its path.
    pub path: PathBuf,
    /// CNI_CONTAINERID
    pub container_id: String,
    /// None if upstream wrote the file.
    pub ifname: Option<String>,
    /// The network of the delegate. None: the file is damaged.
    pub network: Option<String>,
    /// `ipam.type` of the delegate.
    pub ipam: String,
    /// `ipam.dataDir` of the delegate.
    pub ipam_data_dir: Option<PathBuf>,
}

impl StateFile {
    fn of(entry: Entry) -> StateFile {
        let config = entry.delegate().map(|delegate| delegate.config);
        let config = config.and_then(|config| serde_json::from_slice::<Value>(&config).ok());
        let text = |pointer: &str| {
            let value = config.as_ref()?.pointer(pointer)?;
            value.as_str().filter(|text| !text.is_empty())
        };
        StateFile {
            network: text("/name").map(str::to_owned),
            ipam: text("/ipam/type").unwrap_or_default().to_owned(),
            ipam_data_dir: text("/ipam/dataDir").map(PathBuf::from),
            path: entry.path,
            container_id: entry.container_id,
            ifname: entry.ifname,
        }
    }

    /// Whose file it is; of upstream's, one of the container's attachments. None: it is damaged.
    pub fn owner(&self) -> Option<Attachment> {
        let ifname = self.ifname.as_deref().unwrap_or("eth0");
        let network = self.network.as_ref()?;
        Some(Attachment::new(network, &self.container_id, ifname))
    }
}

/// The state files in the folder.
pub fn state_files(data_dir: &Path) -> Result<Vec<StateFile>, cni_conf::Error> {
    let entries = list(data_dir)?;
    Ok(entries.into_iter().map(StateFile::of).collect())
}

/// Removes the names that upstream does not know, of files that have upstream's name, too. Returns
/// how many there were.
pub fn leave_to_upstream(data_dir: &Path) -> Result<usize, cni_conf::Error> {
    let mut count = 0;
    for entry in list(data_dir)? {
        if let Some(ifname) = &entry.ifname {
            let state = State::new(data_dir, &entry.container_id, ifname);
            count += usize::from(state.leave_to_upstream()?);
        }
    }
    Ok(count)
}
