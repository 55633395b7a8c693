//! The NETLINK_NETFILTER socket: transactions (NFNL_MSG_BATCH_BEGIN..END) and reading back.
use crate::{Chain, Error, Family, Rule, Table};

/// The socket, in the calling thread's network namespace at `open`.
#[derive(Debug)]
pub struct Nft {
    _socket: netlink_sys::Socket,
    _sequence: u32,
}

/// What is done as one: all or nothing. Deletions are best put first.
#[derive(Debug, Clone, Default)]
pub struct Transaction {/* messages */}
impl Transaction {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Table and chains (if absent), every listed chain flushed, its rules put in: the table's chains become exactly this.
    pub fn set_table(&mut self, _table: &Table) -> &mut Self {
        todo!()
    }
    /// The table if absent, without chains.
    pub fn add_table(&mut self, _family: Family, _name: &str, _comment: Option<&str>) -> &mut Self {
        todo!()
    }
    /// The chain if absent (its rules are not looked at).
    pub fn add_chain(&mut self, _family: Family, _table: &str, _chain: &Chain) -> &mut Self {
        todo!()
    }
    /// Appends a rule.
    pub fn append(
        &mut self,
        _family: Family,
        _table: &str,
        _chain: &str,
        _rule: &Rule,
    ) -> &mut Self {
        todo!()
    }
    /// Puts a rule at the head.
    pub fn insert(
        &mut self,
        _family: Family,
        _table: &str,
        _chain: &str,
        _rule: &Rule,
    ) -> &mut Self {
        todo!()
    }
    /// Empties a chain.
    pub fn flush_chain(&mut self, _family: Family, _table: &str, _chain: &str) -> &mut Self {
        todo!()
    }
    /// Deletes an (empty, unreferenced) chain.
    pub fn delete_chain(&mut self, _family: Family, _table: &str, _chain: &str) -> &mut Self {
        todo!()
    }
    /// Deletes a rule by handle.
    pub fn delete_rule(
        &mut self,
        _family: Family,
        _table: &str,
        _chain: &str,
        _handle: u64,
    ) -> &mut Self {
        todo!()
    }
    /// Deletes a whole table.
    pub fn delete_table(&mut self, _family: Family, _table: &str) -> &mut Self {
        todo!()
    }
}
/// A rule of the kernel's, with its handle.
#[derive(Debug, Clone, PartialEq)]
pub struct Installed {
    /// handle
    pub handle: u64,
    /// chain
    pub chain: String,
    /// the rule, `Statement::Unknown` where it is not of ours
    pub rule: Rule,
}
impl Nft {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        todo!()
    }
    /// All or nothing; an empty one is not sent.
    pub fn commit(&mut self, _transaction: &Transaction) -> Result<(), Error> {
        todo!()
    }
    /// A whole table as it is in the kernel; None if there is none. Equal to the `Table` that `set_table` was given if nobody touched it.
    pub fn table(&mut self, _family: Family, _name: &str) -> Result<Option<Table>, Error> {
        todo!()
    }
    /// Rules of a table (or of one chain of it).
    pub fn rules(
        &mut self,
        _family: Family,
        _table: &str,
        _chain: Option<&str>,
    ) -> Result<Vec<Installed>, Error> {
        todo!()
    }
    /// Names of all tables.
    pub fn tables(&mut self) -> Result<Vec<(Family, String)>, Error> {
        todo!()
    }
}
/// Notifications (NFNLGRP_NFTABLES): wakes when any table changed. Non-blocking, AsFd.
#[derive(Debug)]
pub struct NftMonitor {
    _socket: netlink_sys::Socket,
}
impl NftMonitor {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        todo!()
    }
    /// Reads all that waits; the (family, table) pairs that changed; an overrun gives `None`.
    pub fn changed(&mut self) -> Result<Option<Vec<(Family, String)>>, Error> {
        todo!()
    }
}
impl std::os::fd::AsFd for NftMonitor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        todo!()
    }
}
impl std::os::fd::AsRawFd for NftMonitor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        todo!()
    }
}
