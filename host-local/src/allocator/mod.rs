//! Chooses the addresses of a container: round robin over each range set, or the requested ones
//! (upstream: `IPAllocator`).

use crate::{
    error::{AllocateError, Error, FileError},
    range_set::RangeSet,
};
use ipnetwork::IpNetwork;
use std::{collections::HashSet, mem::take, net::IpAddr};

/// How many candidates are tried one by one before all reservations are listed once.
const MAX_PROBES: usize = 32;

/// The reservations of one network. Holding a `Store` means holding its lock.
pub(crate) trait Store {
    /// The address allocated last from set number `set`.
    fn last_reserved(&self, set: usize) -> Option<IpAddr>;
    /// Records the last allocated address. A failure affects only the order of addresses.
    fn set_last_reserved(&mut self, set: usize, ip: IpAddr);
    /// Reserves an address for the calling attachment; false: it is reserved already.
    fn reserve(&mut self, ip: IpAddr) -> Result<bool, FileError>;
    /// Reverts a `reserve` of this call.
    fn release(&mut self, ip: IpAddr);
    /// The reservations of the calling attachment.
    fn held(&mut self) -> Result<Vec<Held>, FileError>;
    /// All reserved addresses.
    fn taken(&self) -> Result<HashSet<IpAddr>, FileError>;
    /// Frees the wanted addresses whose containers are gone; false: there are none.
    fn reclaim(&mut self, wanted: &dyn Fn(IpAddr) -> bool) -> Result<bool, FileError>;
}

/// A reservation of the calling attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) ip: IpAddr,
    /// False: a legacy reservation, which names the container but no interface, or one for another
    /// network namespace that exists.
    pub(crate) exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allocated {
    /// With the subnet's prefix length.
    pub(crate) address: IpNetwork,
    pub(crate) gateway: IpAddr,
}

/// Allocates one address of each set. On an error, all reservations of this call are released.
/// `in_use` says whether an interface of the container has an address.
pub(crate) fn allocate(
    store: &mut dyn Store,
    sets: &[RangeSet],
    requested: &[IpAddr],
    container_id: &str,
    in_use: &dyn Fn(IpAddr) -> bool,
) -> Result<Vec<Allocated>, Error> {
    let mut allocation = Allocation {
        store,
        container_id,
        in_use,
        reserved: Vec::new(),
    };
    let result = allocation.all(sets, requested.to_vec());
    if result.is_err() {
        for ip in take(&mut allocation.reserved) {
            allocation.store.release(ip);
        }
    }
    result
}

struct Allocation<'a> {
    store: &'a mut dyn Store,
    container_id: &'a str,
    in_use: &'a dyn Fn(IpAddr) -> bool,
    /// By this call.
    reserved: Vec<IpAddr>,
}

impl Allocation<'_> {
    fn all(
        &mut self,
        sets: &[RangeSet],
        mut requested: Vec<IpAddr>,
    ) -> Result<Vec<Allocated>, Error> {
        let mut allocated = Vec::with_capacity(sets.len());
        for (index, set) in sets.iter().enumerate() {
            let wanted = requested.iter().position(|ip| set.contains(*ip));
            let ip = match wanted.map(|position| requested.remove(position)) {
                Some(ip) => self.requested(index, set, ip),
                None => self.next(index, set),
            };
            let ip = ip.map_err(|source| Error::Allocate { index, source })?;
            // each allocated address is in a range of this set
            allocated.extend(set.range_of(ip).map(|range| Allocated {
                address: range.with_prefix(ip),
                gateway: range.gateway,
            }));
        }
        match requested.is_empty() {
            true => Ok(allocated),
            false => Err(Error::NotInAnySet(requested)),
        }
    }

    fn requested(
        &mut self,
        index: usize,
        set: &RangeSet,
        ip: IpAddr,
    ) -> Result<IpAddr, AllocateError> {
        if set.range_of(ip).is_some_and(|range| range.gateway == ip) {
            return Err(AllocateError::Gateway(ip));
        }
        if self.reserve(index, ip)? {
            return Ok(ip);
        }
        let mut held = self.store.held()?.into_iter();
        let available = match held.any(|held| held.exact && held.ip == ip) {
            true => !(self.in_use)(ip),
            false => self.store.reclaim(&|other| other == ip)? && self.reserve(index, ip)?,
        };
        match available {
            true => Ok(ip),
            false => Err(AllocateError::NotAvailable {
                ip,
                set: set.to_string(),
            }),
        }
    }

    fn next(&mut self, index: usize, set: &RangeSet) -> Result<IpAddr, AllocateError> {
        let held = self.store.held()?;
        if let Some(held) = held.iter().find(|held| set.contains(held.ip)) {
            // an earlier ADD of the interface failed, and the runtime repeats it without a DEL
            if held.exact && !(self.in_use)(held.ip) {
                return Ok(held.ip);
            }
            return Err(AllocateError::Duplicate {
                ip: held.ip,
                container_id: self.container_id.to_owned(),
            });
        }
        if let Some(ip) = self.reserve_free(index, set)? {
            return Ok(ip);
        }
        if self.store.reclaim(&|ip| set.contains(ip))?
            && let Some(ip) = self.reserve_free(index, set)?
        {
            return Ok(ip);
        }
        Err(AllocateError::Exhausted(set.to_string()))
    }

    fn reserve_free(&mut self, index: usize, set: &RangeSet) -> Result<Option<IpAddr>, FileError> {
        let mut taken = HashSet::new();
        let candidates = set.candidates(self.store.last_reserved(index));
        for (probes, (ip, _)) in candidates.enumerate() {
            if probes == MAX_PROBES {
                taken = self.store.taken()?;
            }
            if !taken.contains(&ip) && self.reserve(index, ip)? {
                return Ok(Some(ip));
            }
        }
        Ok(None)
    }

    fn reserve(&mut self, index: usize, ip: IpAddr) -> Result<bool, FileError> {
        let reserved = self.store.reserve(ip)?;
        if reserved {
            self.reserved.push(ip);
            self.store.set_last_reserved(index, ip);
        }
        Ok(reserved)
    }
}

/// True if a set has an address that can be allocated without reclaiming one. Probes the first
/// candidates with `is_taken`, which costs less than listing all reservations.
pub(crate) fn has_free(
    store: &dyn Store,
    index: usize,
    set: &RangeSet,
    is_taken: &dyn Fn(IpAddr) -> bool,
) -> Result<bool, FileError> {
    let mut candidates = set.candidates(store.last_reserved(index)).map(|(ip, _)| ip);
    if candidates.by_ref().take(MAX_PROBES).any(|ip| !is_taken(ip)) {
        return Ok(true);
    }
    let taken = store.taken()?;
    Ok(candidates.any(|ip| !taken.contains(&ip)))
}

#[cfg(test)]
mod tests;
