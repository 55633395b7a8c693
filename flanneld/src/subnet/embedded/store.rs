//! The store of leases: one redb file.
use std::{path::Path, sync::Arc};

use crate::{network_config::NetworkConfig, subnet::Error};

/// The leases of one network.
pub struct Store {}

impl Store {
    /// Opens or creates the file (and its folder); `config` has passed `check_subnets`. The error of a file that is
    /// corrupt, foreign or in use says what to do.
    pub fn open(_path: &Path, _config: NetworkConfig) -> Result<Arc<Store>, Error> {
        todo!()
    }
}
