//! Writes this node's annotations, and writes them again when another party changes them.

use crate::subnet::kube::{Client, Node, annotations, client::Failure, retry::WriteLimiter};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// What was published, and how often.
pub(super) struct Publisher {
    client: Client,
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limiter: WriteLimiter,
    /// The object's uid and the annotations, as they were written last.
    written: Option<(String, BTreeMap<String, String>)>,
}

/// What became of the annotations.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// They are as they should be.
    Unchanged,
    Written,
    /// They may be written after this delay; the object may be newer then.
    Later(Duration),
}

impl Publisher {
    pub(super) fn new(client: Client, name: String) -> Publisher {
        Publisher {
            client,
            name,
            state: Mutex::default(),
        }
    }

    /// Patches what differs from the object.
    pub(super) async fn publish(
        &self,
        wanted: BTreeMap<String, String>,
        node: &Node,
    ) -> Result<Published, Failure> {
        let Some(body) = annotations::patch(&wanted, node) else {
            return Ok(Published::Unchanged);
        };
        let wanted = (node.uid.clone(), wanted);
        let again = {
            let state = self.state();
            let again = state.written.as_ref() == Some(&wanted);
            let delay = state.limiter.delay(Instant::now());
            if again && !delay.is_zero() {
                return Ok(Published::Later(delay));
            }
            again
        };
        self.client.patch_node_status(&self.name, body).await?;
        let mut state = self.state();
        state.written = Some(wanted);
        if !again {
            state.limiter.written(Instant::now());
            info!("node {}: published how this node is reached", self.name);
        } else if state.limiter.written_again(Instant::now()) {
            warn!(
                "node {}: another party changed or removed flanneld's annotations: written again",
                self.name
            );
        }
        Ok(Published::Written)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
