//! The streaming watch, and the old API's ways of reading leases. A watcher is a number, the
//! revision that it has seen: one that falls behind costs nothing and gets a snapshot again. Lines
//! are made when the connection takes them, one at a time.

use crate::{
    model::network_config::NetworkConfig,
    subnet::embedded::{
        store::{Connected, Store, Update},
        wire::{HEARTBEAT_INTERVAL, LINE_TARGET, json},
    },
};
use axum::body::Body;
use futures_util::stream;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Changes within this time become one line.
const BATCH_DELAY: Duration = Duration::from_millis(10);
/// How long the old API's `?next=` waits.
const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(55);

/// A watch from a revision on: first what changed since, then changes as they come. `continues`:
/// what to tell a client that has named an epoch. `session`: the process that watches.
pub(super) fn stream(
    store: Arc<Store>,
    cursor: Option<u64>,
    continues: Option<bool>,
    session: Option<String>,
) -> Body {
    let mut header = format!(
        r#""store":{},"epoch":{},"ttl":{},"grace":{}"#,
        json(&store.id),
        json(&store.epoch()),
        store.ttl().as_secs(),
        store.grace.as_secs()
    );
    if let Some(continues) = continues {
        header.push_str(&format!(r#","continues":{continues}"#));
    }
    let mut revisions = store.revisions();
    revisions.mark_changed();
    let mut configs = store.configs();
    let config = json(&configs.borrow_and_update().raw);
    let watcher = Watcher {
        lines: Lines::one(format!("{{{header},\"config\":{config}}}\n")),
        revisions,
        configs,
        cursor,
        header,
        _connected: session.map(|session| store.connect(session)),
        store,
    };
    Body::from_stream(stream::unfold(watcher, |mut watcher| async move {
        let line = watcher.next().await?;
        Some((Ok::<_, Infallible>(line), watcher))
    }))
}

struct Watcher {
    store: Arc<Store>,
    revisions: watch::Receiver<u64>,
    configs: watch::Receiver<NetworkConfig>,
    /// `"store":"6f1c...","epoch":"02be...","ttl":86400,"grace":900`
    header: String,
    /// The revision that the client has seen.
    cursor: Option<u64>,
    lines: Lines,
    _connected: Option<Connected>,
}

impl Watcher {
    /// The next line; None when the store closes.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.lines.next() {
                return Some(line);
            }
            let changed = async {
                tokio::select! {
                    changed = self.configs.changed() => changed.map(|()| true),
                    changed = self.revisions.changed() => changed.map(|()| false),
                }
            };
            match timeout(HEARTBEAT_INTERVAL, changed).await {
                Ok(Ok(true)) => {
                    let config = json(&self.configs.borrow_and_update().raw);
                    self.lines = Lines::one(format!("{{\"config\":{config}}}\n"));
                }
                Ok(Ok(false)) => {
                    // the first snapshot is complete as it is
                    if self.cursor.is_some() {
                        sleep(BATCH_DELAY).await;
                    }
                    self.lines = self.update();
                }
                Ok(Err(_)) => return None,
                Err(_) => return self.cursor.map(heartbeat),
            }
        }
    }

    fn update(&mut self) -> Lines {
        self.revisions.borrow_and_update();
        let (update, revision) = self.store.since(self.cursor);
        self.cursor = Some(revision);
        let (head, items) = match update {
            Update::Snapshot(leases) => (format!(r#"{{{},"snapshot":["#, self.header), leases),
            Update::Events(events) if events.is_empty() => return Lines::one(heartbeat(revision)),
            Update::Events(events) => (r#"{"events":["#.to_owned(), events),
        };
        Lines {
            head,
            repeat_head: true,
            separator: "],\"more\":true}\n",
            end: format!("],\"cursor\":\"{revision}\"}}\n"),
            items,
            ..Lines::default()
        }
    }
}

fn heartbeat(revision: u64) -> String {
    format!("{{\"cursor\":\"{revision}\"}}\n")
}

/// The old API's answer with all leases.
pub(super) fn list(store: &Store) -> Body {
    let (leases, revision) = store.snapshot();
    let pieces = Lines {
        head: r#"{"events":null,"snapshot":["#.to_owned(),
        separator: ",",
        end: format!(r#"],"cursor":"{revision}"}}"#),
        items: leases,
        ..Lines::default()
    };
    Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)))
}

/// JSON items in pieces of about [`LINE_TARGET`] bytes. Only the last piece has the cursor, so that
/// a reader never takes a part for the whole.
#[derive(Default)]
struct Lines {
    head: String,
    repeat_head: bool,
    separator: &'static str,
    end: String,
    items: Arc<[Arc<str>]>,
    sent: usize,
    done: bool,
}

impl Lines {
    fn one(end: String) -> Lines {
        Lines {
            end,
            ..Lines::default()
        }
    }
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.done {
            return None;
        }
        let mut line = match self.repeat_head {
            true => self.head.clone(),
            false => std::mem::take(&mut self.head),
        };
        let mut comma = "";
        while line.len() < LINE_TARGET
            && let Some(item) = self.items.get(self.sent)
        {
            line.push_str(comma);
            line.push_str(item);
            comma = ",";
            self.sent += 1;
        }
        self.done = self.sent == self.items.len();
        line.push_str(if self.done { &self.end } else { self.separator });
        Some(line)
    }
}

/// Waits until something has changed since a revision, or the time-out.
pub(super) async fn changed_since(store: &Store, seen: u64) {
    let mut revisions = store.revisions();
    let changed = revisions.wait_for(|revision| *revision != seen);
    // a change and the time-out have the same answer: the snapshot
    drop(timeout(LONG_POLL_TIMEOUT, changed).await);
}
