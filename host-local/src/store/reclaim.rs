//! Removal of reservations whose containers are gone: when all addresses are reserved, and in GC.

use super::{
    disk::Disk,
    liveness::{Reason, Snapshot},
    record::Record,
    reservation::is_legacy,
};
use crate::error::FileError;
use plugin::{Attachment, warn};
use std::{collections::HashSet, net::IpAddr};

/// How many freed addresses are printed, one on a line.
const MAX_WARNINGS: usize = 10;

/// A reservation that can be removed.
struct Abandoned {
    name: String,
    /// None: the file is empty.
    record: Option<Record>,
    reason: Reason,
}

impl Disk {
    fn abandoned(&mut self, wanted: &dyn Fn(IpAddr) -> bool) -> Result<Vec<Abandoned>, FileError> {
        let contents = self.scan()?;
        let snapshot = Snapshot::take(self.boot(), &contents.records);
        let empty = contents.empty.into_iter().map(|name| Abandoned {
            name,
            record: None,
            reason: Reason::Empty,
        });
        let dead = contents.records.into_iter().filter_map(|record| {
            Some(Abandoned {
                name: record.name.clone(),
                reason: snapshot.abandoned(&record)?,
                record: Some(record),
            })
        });
        let is_wanted = |abandoned: &Abandoned| abandoned.name.parse().is_ok_and(wanted);
        Ok(empty.chain(dead).filter(is_wanted).collect())
    }

    pub(crate) fn has_abandoned(
        &mut self,
        wanted: &dyn Fn(IpAddr) -> bool,
    ) -> Result<bool, FileError> {
        Ok(!self.abandoned(wanted)?.is_empty())
    }

    /// Removes the wanted reservations that are abandoned, and prints them on stderr.
    pub(super) fn reclaim_abandoned(
        &mut self,
        wanted: &dyn Fn(IpAddr) -> bool,
    ) -> Result<bool, FileError> {
        let abandoned = self.abandoned(wanted)?;
        let count = abandoned.len();
        let mut records = Vec::new();
        for (number, abandoned) in abandoned.into_iter().enumerate() {
            let Abandoned {
                name,
                record,
                reason,
            } = abandoned;
            let mut owner = String::new();
            match record {
                Some(record) => {
                    owner = format!(" of container {}", record.owner.container_id);
                    records.push(record);
                }
                None => self.unlink(&name)?,
            }
            if number < MAX_WARNINGS {
                warn(format_args!("host-local: freed {name}{owner}: {reason}"));
            }
        }
        if count > MAX_WARNINGS {
            let more = count - MAX_WARNINGS;
            warn(format_args!("host-local: freed {more} more addresses"));
        }
        self.remove(&records)?;
        Ok(count > 0)
    }

    /// GC: removes the reservations that no valid attachment owns, and empty files. A legacy file
    /// stays if its container has a valid attachment. Other files stay.
    pub(crate) fn collect_garbage(&mut self, valid: &[Attachment]) -> Result<(), FileError> {
        let valid_ids: HashSet<&str> = valid.iter().map(|one| one.container_id.as_str()).collect();
        let valid: HashSet<&Attachment> = valid.iter().collect();
        let mut contents = self.scan()?;
        contents.records.retain(|Record { owner, .. }| {
            let is_valid = match is_legacy(owner) {
                true => valid_ids.contains(owner.container_id.as_str()),
                false => valid.contains(owner),
            };
            !is_valid
        });
        for name in contents.empty {
            self.unlink(&name)?;
        }
        self.remove(&contents.records)
    }
}
