//! The watch of all nodes: one listing, and then what changes. It never ends: whatever the API
//! server does, the last leases stay until a whole listing, or an event, says otherwise.
//!
//! A listing is a watch that begins with every node, or, where the server cannot do that, a list by
//! pages. When the position of a watch is too old for the server, a new listing is compared with
//! the nodes that are known: only what differs changes.

mod cache;
mod error;
mod failures;
pub(crate) mod fuzz;
mod http;
mod progress;
mod read;
mod request;
mod thread;
mod timing;

pub(crate) use thread::WatchThread;

use crate::{
    model::lease::Leases,
    retry::random_share,
    subnet::{
        Waiting,
        kube::{Families, Keys, OwnNode},
    },
};
use cache::{NodeCache, Summary};
use error::Failure;
use failures::{Failures, GONE};
use progress::Progress;
use request::Request;
use std::convert::Infallible;
use timing::Timing;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

/// Nodes that are named in the log at once: a mistake may concern them all.
const LOGGED_NODES: usize = 10;

/// Where the watch publishes what it reads.
#[derive(Debug)]
pub(crate) struct Published {
    /// This node's object.
    pub(crate) own: watch::Sender<OwnNode>,
    /// The leases of all nodes; None before the end of the first listing.
    pub(crate) leases: watch::Sender<Option<Leases>>,
    pub(crate) waiting: Waiting,
}

/// What is watched, and for whom.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) keys: Keys,
    pub(crate) families: Families,
    /// This node's name.
    pub(crate) own_name: String,
    pub(crate) published: Published,
}

/// Watches on the caller's thread, which it blocks between two reads: for a caller that waits for
/// the first leases only.
pub(crate) async fn run(client: kube::Client, watched: Watched) -> Infallible {
    NodeWatch::new(client, watched, Timing::default())
        .run()
        .await
}

struct NodeWatch {
    client: kube::Client,
    cache: NodeCache,
    progress: Progress,
    published: Published,
    timing: Timing,
    failures: Failures,
    /// `waiting` says what is wrong
    reported: bool,
    /// the server sends bookmarks
    bookmarks: bool,
}

impl NodeWatch {
    fn new(client: kube::Client, watched: Watched, timing: Timing) -> NodeWatch {
        NodeWatch {
            client,
            cache: NodeCache::new(watched.keys, watched.families, watched.own_name),
            progress: Progress::default(),
            published: watched.published,
            timing,
            failures: Failures::default(),
            reported: false,
            bookmarks: false,
        }
    }

    /// Requests and reads until it is dropped. Blocks its thread between two reads of a watch.
    async fn run(mut self) -> Infallible {
        loop {
            let request = self.progress.request();
            let answer = self.send(request.clone()).await;
            self.publish();
            if let Err(failure) = answer {
                self.failed(&request, &failure).await;
            }
        }
    }

    /// One request, to the end of its answer.
    async fn send(&mut self, request: Request) -> Result<(), Failure> {
        if request.starts_listing() {
            self.cache.start_listing();
        }
        let duration = self.timing.watch.mul_f64(1.0 + random_share());
        let is_page = matches!(request, Request::Page { .. });
        let answer = http::get(&self.client, request, duration, self.timing.answer).await?;
        match is_page {
            true => self.read_page(answer).await,
            false => self.read_watch(answer, duration).await,
        }
    }

    /// Publishes what has changed.
    fn publish(&mut self) {
        let own = self.cache.own();
        self.published.own.send_if_modified(|current| {
            let changed = current != own;
            if changed {
                current.clone_from(own);
            }
            changed
        });
        if let Some(leases) = self.cache.take_leases() {
            self.published.leases.send_replace(Some(leases));
        }
        let notices = self.cache.take_notices();
        for notice in notices.iter().take(LOGGED_NODES) {
            warn!("{notice}");
        }
        if notices.len() > LOGGED_NODES {
            warn!(
                "the same or similar of {} other nodes",
                notices.len() - LOGGED_NODES
            );
        }
    }

    /// All nodes are known, as they were at this version.
    fn finish_listing(&mut self, resource_version: String) {
        self.progress.listed(resource_version);
        self.cache.finish_listing();
        let Summary {
            nodes,
            leases,
            skipped,
        } = self.cache.summary();
        info!("{nodes} nodes were listed: {leases} have a lease, {skipped} are skipped");
    }

    /// The API server answers as it should.
    fn proved_good(&mut self) {
        self.failures.clear();
        if self.reported {
            self.reported = false;
            self.published.waiting.clear();
            info!("the API server answers again");
        }
    }

    /// Says what is wrong, where it matters, and waits until the next attempt.
    async fn failed(&mut self, request: &Request, failure: &Failure) {
        let at_once = self.progress.failed(request, failure);
        let attempt = self.failures.add(failure.code());
        if at_once {
            info!("nodes are listed by pages: {failure}");
            if attempt == 1 {
                return;
            }
        }
        // one broken connection is no news
        if attempt > 1 || failure.code().is_some_and(|code| code != GONE) {
            self.reported = true;
            let waiting = &self.published.waiting;
            waiting.report(format!("for the API server: {failure}"));
        } else {
            debug!("the watch of nodes: {failure}");
        }
        let asked = failure.retry_after().unwrap_or_default();
        let asked = asked.min(self.timing.longest_retry_after);
        sleep(asked + self.timing.backoff.full_jitter(attempt)).await;
    }
}

#[cfg(test)]
mod tests;
