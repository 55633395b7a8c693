//! What runs when a signal ends the daemon: ShutdownCommand of the backend `extension`.

use crate::backend::Backend;
use std::sync::{Arc, Mutex, PoisonError};

/// The backend that the daemon ran with last.
#[derive(Default)]
pub(super) struct AtEnd(Mutex<Option<Arc<dyn Backend>>>);

impl AtEnd {
    /// From now on this backend's command runs at the end.
    pub(super) fn set(&self, backend: &Arc<dyn Backend>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(backend.clone());
    }

    /// Runs the command, with a time limit. Nothing else of the daemon runs any more.
    pub(super) async fn run(&self) {
        let backend = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(extension) = backend.as_ref().and_then(|backend| backend.commands()) {
            extension.shut_down().await;
        }
    }
}
