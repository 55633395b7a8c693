//! Why the manager cannot be opened.

use crate::subnet::kube::{
    ClientError, annotations::PrefixError, config_file::ConfigError, name::NameError,
};

/// Every error needs the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Name(#[from] NameError),
    /// The system has no thread for the watch.
    #[error("cannot start the thread that watches the nodes: {0}")]
    Thread(#[from] std::io::Error),
}

impl OpenError {
    /// True if an option or variable is the reason.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            OpenError::Prefix(_)
                | OpenError::Name(_)
                | OpenError::Client(ClientError::Url { .. } | ClientError::NoServer)
        )
    }
}
