//! Which address a container gets: round robin over each range set, or the one that was asked for (reference: host-local's
//! `IPAllocator`). Knows nothing of disks; the [`Store`] does.
use crate::{
    error::{AllocateError, Error, FileError},
    range_set::RangeSet,
};
use ipnetwork::IpNetwork;
use std::{collections::HashSet, net::IpAddr};

/// So many candidates are tried one by one. Then what is taken is listed once, so that a full stretch costs no more than that.
const TRIES: usize = 32;

/// Where reservations are kept. One caller at a time: whoever has the value has the lock.
pub trait Store {
    /// The address given away last from set `set`.
    fn last_reserved(&self, set: usize) -> Option<IpAddr>;
    /// Notes it. A failure is of no consequence but for the order of addresses.
    fn set_last_reserved(&mut self, set: usize, ip: IpAddr);
    /// Takes an address for the caller's container; false if somebody has it.
    fn reserve(&mut self, ip: IpAddr) -> Result<bool, FileError>;
    /// Gives back what `reserve` has just taken.
    fn release(&mut self, ip: IpAddr);
    /// What the caller's container and interface already have.
    fn held(&mut self) -> Result<Vec<Held>, FileError>;
    /// Every address that is taken.
    fn taken(&self) -> Result<HashSet<IpAddr>, FileError>;
    /// Frees those of the `wanted` addresses whose reservations cannot belong to anybody alive; true if there were any.
    fn reclaim(&mut self, wanted: &dyn Fn(IpAddr) -> bool) -> Result<bool, FileError>;
}

/// A reservation that the caller already has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// its address
    pub ip: IpAddr,
    /// for this very interface; else an old one that tells the container alone
    pub exact: bool,
}

/// An address for a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// with the subnet's length
    pub address: IpNetwork,
    /// the range's
    pub gateway: IpAddr,
}

/// One address of each set, in their order; on an error everything that this call reserved is given back. `in_use` tells whether an
/// interface of the container has an address.
pub fn allocate(
    store: &mut dyn Store,
    sets: &[RangeSet],
    requested: &[IpAddr],
    container_id: &str,
    in_use: &dyn Fn(IpAddr) -> bool,
) -> Result<Vec<Given>, Error> {
    let mut allocation = Allocation {
        store,
        container_id,
        in_use,
        new: Vec::new(),
    };
    let result = allocation.all(sets, requested);
    if result.is_err() {
        for ip in std::mem::take(&mut allocation.new) {
            allocation.store.release(ip);
        }
    }
    result
}

struct Allocation<'a> {
    store: &'a mut dyn Store,
    container_id: &'a str,
    in_use: &'a dyn Fn(IpAddr) -> bool,
    /// reserved by this call
    new: Vec<IpAddr>,
}

impl Allocation<'_> {
    fn all(&mut self, sets: &[RangeSet], requested: &[IpAddr]) -> Result<Vec<Given>, Error> {
        let mut requested = requested.to_vec();
        let mut given = Vec::with_capacity(sets.len());
        for (index, set) in sets.iter().enumerate() {
            let wanted = requested.iter().position(|ip| set.contains(*ip));
            let ip = match wanted.map(|at| requested.remove(at)) {
                Some(ip) => self.requested(index, set, ip),
                None => self.next(index, set),
            };
            let ip = ip.map_err(|source| Error::Allocate { index, source })?;
            // every address that is found comes from a range of this set
            given.extend(set.range_of(ip).map(|range| Given {
                address: range.with_length(ip),
                gateway: range.gateway,
            }));
        }
        if requested.is_empty() {
            Ok(given)
        } else {
            Err(Error::NotInAnySet(requested))
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
        if self.take(index, ip)? {
            return Ok(ip);
        }
        let own = self
            .store
            .held()?
            .into_iter()
            .any(|held| held.exact && held.ip == ip);
        if own && !(self.in_use)(ip) {
            return Ok(ip);
        }
        if !own && self.store.reclaim(&|other| other == ip)? && self.take(index, ip)? {
            return Ok(ip);
        }
        Err(AllocateError::NotAvailable {
            ip,
            set: set.to_string(),
        })
    }

    fn next(&mut self, index: usize, set: &RangeSet) -> Result<IpAddr, AllocateError> {
        let held = self.store.held()?;
        if let Some(held) = held.iter().find(|held| set.contains(held.ip)) {
            // An ADD that did not come to its end left this behind. The container that it is reserved for asks again.
            if held.exact && !(self.in_use)(held.ip) {
                return Ok(held.ip);
            }
            return Err(AllocateError::Duplicate {
                ip: held.ip,
                container_id: self.container_id.to_owned(),
            });
        }
        if let Some(ip) = self.free(index, set)? {
            return Ok(ip);
        }
        if self.store.reclaim(&|ip| set.contains(ip))?
            && let Some(ip) = self.free(index, set)?
        {
            return Ok(ip);
        }
        Err(AllocateError::Exhausted(set.to_string()))
    }

    fn free(&mut self, index: usize, set: &RangeSet) -> Result<Option<IpAddr>, FileError> {
        let mut taken = HashSet::new();
        for (tried, (ip, _)) in set.candidates(self.store.last_reserved(index)).enumerate() {
            if tried == TRIES {
                taken = self.store.taken()?;
            }
            if !taken.contains(&ip) && self.take(index, ip)? {
                return Ok(Some(ip));
            }
        }
        Ok(None)
    }

    fn take(&mut self, index: usize, ip: IpAddr) -> Result<bool, FileError> {
        if !self.store.reserve(ip)? {
            return Ok(false);
        }
        self.new.push(ip);
        self.store.set_last_reserved(index, ip);
        Ok(true)
    }
}

/// True if a set has an address that `allocate` could give to somebody new without reclaiming any. Tries candidates with `is_taken`
/// first, which is cheaper than listing them all.
pub fn has_free(
    store: &dyn Store,
    index: usize,
    set: &RangeSet,
    is_taken: &dyn Fn(IpAddr) -> bool,
) -> Result<bool, FileError> {
    let mut candidates = set.candidates(store.last_reserved(index)).map(|(ip, _)| ip);
    if candidates.by_ref().take(TRIES).any(|ip| !is_taken(ip)) {
        return Ok(true);
    }
    let taken = store.taken()?;
    Ok(candidates.any(|ip| !taken.contains(&ip)))
}

#[cfg(test)]
mod tests;
