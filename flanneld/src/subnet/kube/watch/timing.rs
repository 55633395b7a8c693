//! How long the watch waits for what.

use crate::retry::ExponentialBackoff;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct Timing {
    /// For the head of an answer.
    pub(super) answer: Duration,
    /// For the next node of a listing.
    pub(super) listing_silence: Duration,
    /// For a whole listing.
    pub(super) listing: Duration,
    /// The server is asked to end a watch after so long, or up to twice as long.
    pub(super) watch: Duration,
    /// For the end of a watch, after its time.
    pub(super) watch_end: Duration,
    /// For an event or a bookmark of a watch, where the server sends bookmarks: about once a
    /// minute. It may send none while no node object changes.
    pub(super) watch_silence: Duration,
    /// A connection that is open for so long is a good one, even if it has nothing to say.
    pub(super) good: Duration,
    /// Between two reads of a watch: the thread sleeps, whatever arrives. The API server ends the
    /// watch of a client that takes nothing for long: it holds some dozens of events for it.
    pub(super) pause: Duration,
    /// How long a read waits for more that is on its way.
    pub(super) drain: Duration,
    /// A read that never ends is interrupted after this, to publish what it changed.
    pub(super) longest_read: Duration,
    pub(super) backoff: ExponentialBackoff,
    /// The server's Retry-After counts up to this.
    pub(super) longest_retry_after: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            answer: Duration::from_secs(30),
            listing_silence: Duration::from_secs(30),
            listing: Duration::from_secs(600),
            watch: Duration::from_secs(300),
            watch_end: Duration::from_secs(15),
            watch_silence: Duration::from_secs(150),
            good: Duration::from_secs(5),
            pause: Duration::from_millis(100),
            drain: Duration::from_millis(1),
            longest_read: Duration::from_millis(50),
            // 5,000 daemons return within the delay, at any moment of it
            backoff: ExponentialBackoff {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(30),
            },
            longest_retry_after: Duration::from_secs(120),
        }
    }
}
