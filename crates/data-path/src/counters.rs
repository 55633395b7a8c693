//! What happened to packets, for the status.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Packets that the device gave, each segment of a super-packet as one.
    FromDevice,
    /// Packets that were given to the device.
    ToDevice,
    /// Datagrams sent.
    Sent,
    /// Datagrams received.
    Received,
    /// Not an IP packet, or one that contradicts itself.
    Malformed,
    /// A source or a destination that cannot be.
    Spoofed,
    /// No peer has the destination.
    NoRoute,
    /// The TTL or hop limit came to its end.
    TtlExceeded,
    /// Longer than the path to the peer takes.
    TooLarge,
    /// ICMP errors sent to the senders of packets.
    IcmpErrors,
    /// Datagrams that the socket refused.
    SendErrors,
    /// Packets that the device refused.
    DeviceErrors,
    /// Dropped by the engine for a reason of its own.
    Dropped,
}

/// The number of kinds.
const KINDS: usize = 13;

/// Counters that one thread increases and others read.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; KINDS]);

/// Sums of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals([u64; KINDS]);

impl Counter {
    /// Every kind, with its name in the status.
    pub const ALL: [(Counter, &'static str); KINDS] = [
        (Counter::FromDevice, "fromDevice"),
        (Counter::ToDevice, "toDevice"),
        (Counter::Sent, "sent"),
        (Counter::Received, "received"),
        (Counter::Malformed, "malformed"),
        (Counter::Spoofed, "spoofed"),
        (Counter::NoRoute, "noRoute"),
        (Counter::TtlExceeded, "ttlExceeded"),
        (Counter::TooLarge, "tooLarge"),
        (Counter::IcmpErrors, "icmpErrors"),
        (Counter::SendErrors, "sendErrors"),
        (Counter::DeviceErrors, "deviceErrors"),
        (Counter::Dropped, "dropped"),
    ];
}

impl Counters {
    /// Counts some.
    pub fn add(&self, counter: Counter, count: u64) {
        // one writer: no need for an atomic addition
        let place = &self.0[counter as usize];
        place.store(place.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// Counts one.
    pub fn one(&self, counter: Counter) {
        self.add(counter, 1);
    }
}

impl Totals {
    /// Adds another thread's counters.
    pub fn add(&mut self, counters: &Counters) {
        for (sum, count) in self.0.iter_mut().zip(&counters.0) {
            *sum += count.load(Ordering::Relaxed);
        }
    }

    /// Of one kind.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}
