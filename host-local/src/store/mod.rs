//! The reservations on disk: upstream's files under upstream's lock, and an index beside them.
//!
//! `<dataDir>/<network>/` holds one file for each reserved address, `last_reserved_ip.N` for each
//! range set, and `lock`; upstream's plugin can use the same folder. A reservation is complete or
//! absent: it is written to another folder of the same file system and linked into this one, which
//! fails if the address is reserved. There is no fsync: a power loss ends the containers whose
//! reservations it damages.

mod allocation;
mod disk;
mod draft;
mod index;
mod leftover;
mod liveness;
mod reclaim;
mod record;
mod reservation;
#[cfg(test)]
mod tests;

pub(crate) use disk::Disk;
pub use leftover::{Container, Reservation, Store, networks, remove_indexes};

/// A reservation's file, and lines of the index.
pub(crate) fn fuzz(bytes: &[u8]) {
    reservation::Content::parse(bytes, "network");
    record::Record::parse_all(&String::from_utf8_lossy(bytes), "network");
}
pub(crate) use reservation::is_legacy;
