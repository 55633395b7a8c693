//! Reads the answers: pages of a list, and watches.

use super::{NodeWatch, error::Failure, http::Answer};
use crate::subnet::kube::protobuf::{DecodeError, Frames, ListItem, ListReader, WatchEvent};
use bytes::Bytes;
use std::{pin::pin, thread, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

/// The server's own clock may be a little ahead.
const EARLY_END: Duration = Duration::from_secs(5);

/// Since when an answer is read, and until when.
struct Clock {
    opened: Instant,
    /// when something whole was read last
    last: Instant,
    /// how long it may take, whatever is read
    longest: Duration,
}

impl NodeWatch {
    /// One page of a list, to its end.
    pub(super) async fn read_page(&mut self, mut answer: Answer) -> Result<(), Failure> {
        let mut clock = Clock::start(self.timing.listing);
        let (mut reader, mut version, mut token) =
            (ListReader::default(), String::new(), String::new());
        while let Some(chunk) = self.next_chunk(&mut answer, &clock).await? {
            reader.push(&chunk);
            while let Some(item) = reader.next().map_err(|error| answer.undecodable(error))? {
                clock.last = Instant::now();
                match item {
                    ListItem::Node(node) => self.cache.apply(&node)?,
                    ListItem::Metadata {
                        resource_version,
                        continue_token,
                    } => (version, token) = (resource_version, continue_token),
                }
            }
        }
        reader.end().map_err(|error| answer.undecodable(error))?;
        self.proved_good();
        if !token.is_empty() {
            self.progress.next_page(token);
        } else if version.is_empty() {
            return Err(answer.undecodable(DecodeError::NoResourceVersion));
        } else {
            self.finish_listing(version);
        }
        Ok(())
    }

    /// A watch, until the server ends it. `duration` is what it was asked for.
    pub(super) async fn read_watch(
        &mut self,
        mut answer: Answer,
        duration: Duration,
    ) -> Result<(), Failure> {
        let mut clock = Clock::start(duration + self.timing.watch_end);
        let was_listed = self.progress.is_listed();
        let mut frames = Frames::default();
        while self
            .read_events(&mut answer, &mut frames, &mut clock)
            .await?
        {
            // this node's object counts before the end of a listing
            self.publish();
            if self.progress.is_listed() {
                thread::sleep(self.timing.pause);
            }
        }
        let lasted = clock.opened.elapsed();
        if !frames.is_empty() {
            Err(Failure::Truncated)
        } else if !self.progress.is_listed() || lasted + EARLY_END < duration {
            Err(Failure::Ended(lasted))
        } else {
            if was_listed && clock.last == clock.opened {
                self.progress.silent();
            }
            Ok(())
        }
    }

    /// Waits for events, and reads them until no more are on their way. False at the end of the
    /// watch.
    async fn read_events(
        &mut self,
        answer: &mut Answer,
        frames: &mut Frames,
        clock: &mut Clock,
    ) -> Result<bool, Failure> {
        let Some(chunk) = self.next_chunk(answer, clock).await? else {
            return Ok(false);
        };
        let started = Instant::now();
        self.handle_chunk(answer, frames, clock, chunk)?;
        let mut drained = pin!(sleep(self.timing.drain));
        while started.elapsed() < self.timing.longest_read {
            let chunk = tokio::select! {
                biased;
                chunk = answer.chunk() => chunk?,
                () = &mut drained => return Ok(true),
            };
            let Some(chunk) = chunk else {
                return Ok(false);
            };
            self.handle_chunk(answer, frames, clock, chunk)?;
            drained.as_mut().reset(Instant::now() + self.timing.drain);
        }
        Ok(true)
    }

    fn handle_chunk(
        &mut self,
        answer: &Answer,
        frames: &mut Frames,
        clock: &mut Clock,
        chunk: Bytes,
    ) -> Result<(), Failure> {
        frames.push(chunk);
        while let Some(frame) = frames.next().map_err(|error| answer.undecodable(error))? {
            clock.last = Instant::now();
            let event = WatchEvent::decode(frame);
            self.handle(answer, event.map_err(|error| answer.undecodable(error))?)?;
        }
        Ok(())
    }

    fn handle(&mut self, answer: &Answer, event: WatchEvent) -> Result<(), Failure> {
        match event {
            WatchEvent::Applied(node) => {
                self.cache.apply(&node)?;
                self.progress.advance(&node.resource_version());
            }
            WatchEvent::Deleted(node) => {
                self.cache.remove(&node);
                self.progress.advance(&node.resource_version());
            }
            WatchEvent::Bookmark {
                resource_version,
                initial_events_end,
            } => {
                if initial_events_end && !self.progress.is_listed() {
                    self.finish_listing(resource_version);
                } else {
                    self.bookmarks = true;
                    self.progress.advance(&resource_version);
                }
            }
            WatchEvent::Error(status) => return Err(answer.reported(status)),
            WatchEvent::Unknown(kind) => debug!("event of type {kind:?} (ignored)"),
        }
        if self.progress.is_listed() {
            self.proved_good();
        }
        Ok(())
    }

    /// The next bytes; None at the end of the answer.
    async fn next_chunk(
        &mut self,
        answer: &mut Answer,
        clock: &Clock,
    ) -> Result<Option<Bytes>, Failure> {
        let listed = self.progress.is_listed();
        let silence = match (listed, self.bookmarks) {
            (false, _) => self.timing.listing_silence,
            (true, true) => self.timing.watch_silence,
            (true, false) => clock.longest,
        };
        let longest = match listed {
            true => clock.longest,
            false => self.timing.listing,
        };
        let (silent, slow) = (clock.last + silence, clock.opened + longest);
        let (good, deadline) = (clock.opened + self.timing.good, silent.min(slow));
        if listed && Instant::now() < good && good < deadline {
            match timeout_at(good, answer.chunk()).await {
                Ok(chunk) => return chunk,
                Err(_) => self.proved_good(),
            }
        }
        if let Ok(chunk) = timeout_at(deadline, answer.chunk()).await {
            return chunk;
        }
        self.bookmarks = false;
        let path = answer.path.clone();
        Err(match silent < slow {
            true => Failure::Silent {
                path,
                timeout: silence,
            },
            false => Failure::Slow {
                path,
                timeout: longest,
            },
        })
    }
}

impl Clock {
    fn start(longest: Duration) -> Clock {
        let opened = Instant::now();
        Clock {
            opened,
            last: opened,
            longest,
        }
    }
}
