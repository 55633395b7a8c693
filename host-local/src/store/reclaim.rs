//! Freeing what nobody alive can be using: for an ADD that finds every address taken, and for STATUS, which tells whether one would.
use super::{
    Disk, Record,
    liveness::{Evidence, Why},
};
use crate::error::FileError;
use cni_conf::GcAttachment;
use std::{collections::HashSet, net::IpAddr};

/// So many are told one by one.
const TOLD: usize = 10;

impl Disk {
    /// Those of the wanted addresses that could be freed, and why.
    fn abandoned(
        &mut self,
        wanted: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Vec<(String, Option<Record>, Why)>, FileError> {
        let contents = self.scan()?;
        let evidence = Evidence::gather(&self.folder, &self.boot);
        let is_wanted = |name: &str| name.parse().is_ok_and(wanted);
        let broken = contents
            .broken
            .into_iter()
            .map(|name| (name, None, Why::NeverMade));
        let dead = contents.records.into_iter().filter_map(|record| {
            let why = evidence.abandoned(&record)?;
            Some((record.name.clone(), Some(record), why))
        });
        Ok(broken
            .chain(dead)
            .filter(|(name, ..)| is_wanted(name))
            .collect())
    }

    /// True if there is any.
    pub fn has_abandoned(&mut self, wanted: &dyn Fn(IpAddr) -> bool) -> Result<bool, FileError> {
        Ok(!self.abandoned(wanted)?.is_empty())
    }

    /// Frees them, and tells on stderr whose they were.
    pub(super) fn reclaim_abandoned(
        &mut self,
        wanted: &dyn Fn(IpAddr) -> bool,
    ) -> Result<bool, FileError> {
        let abandoned = self.abandoned(wanted)?;
        let mut removed = Vec::new();
        for (position, (name, record, why)) in abandoned.iter().enumerate() {
            match record {
                Some(record) => removed.push(record.clone()),
                None => self.unlink(name)?,
            }
            let whose = match record {
                Some(record) => format!(" of container {}", record.owner.container_id),
                None => String::new(),
            };
            if position < TOLD {
                plugin::warn(format_args!("host-local: freed {name}{whose}: {why}"));
            }
        }
        if let Some(more) = abandoned.len().checked_sub(TOLD).filter(|more| *more > 0) {
            plugin::warn(format_args!("host-local: freed {more} more like these"));
        }
        self.remove(&removed)?;
        Ok(!abandoned.is_empty())
    }

    /// GC: removes every reservation that is no valid attachment's, and files with nothing in them. Of files that tell the container
    /// alone, those of valid containers stay. What no CNI plugin wrote, and files that are no addresses, are not touched.
    pub fn collect_garbage(&mut self, valid: &[GcAttachment]) -> Result<(), FileError> {
        let valid_ids: HashSet<&str> = valid.iter().map(|one| one.container_id.as_str()).collect();
        let valid: HashSet<(&str, &str)> = valid
            .iter()
            .map(|one| (one.container_id.as_str(), one.ifname.as_str()))
            .collect();
        let contents = self.scan()?;
        let stays = |record: &Record| match record.owner.is_legacy() {
            true => valid_ids.contains(record.owner.container_id.as_str()),
            false => valid.contains(&(&record.owner.container_id, &record.owner.ifname)),
        };
        let stale: Vec<Record> = contents
            .records
            .into_iter()
            .filter(|record| !stays(record))
            .collect();
        for name in contents.broken {
            self.unlink(&name)?;
        }
        self.remove(&stale)
    }
}
