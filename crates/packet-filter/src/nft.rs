//! nftables: committing transactions, and reading the ruleset.

use crate::{
    Chain, Element, Error, Family, Rule, Set, Table, Transaction,
    message::{self, request},
    reply::{self, NEW_CHAIN, NEW_ELEMENT, NEW_GENERATION, NEW_RULE, NEW_TABLE, Object},
};
use linux_net::netlink::{Attributes, Client, Malformed, Mode, NETLINK_NETFILTER, Read};
use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{GenMessage, NfTablesMessage},
};
use std::{thread, time::Duration};

/// How often a table or set is read that changes meanwhile.
const READ_ATTEMPTS: u32 = 10;
/// Between two readings of a set whose hash table the kernel resizes.
const RESIZE_DELAY: Duration = Duration::from_millis(1);

/// The socket. It stays in the namespace that it was opened in.
///
/// Closing it after a deletion (of elements too), or after a base chain was declared again, waits 8
/// to 15 ms for the kernel's clean-up, once for all deletions: use one socket, and declare base
/// chains only where they are absent.
#[derive(Debug)]
pub struct Nft {
    client: Client,
}

/// A rule of the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Installed {
    /// number by which it is deleted, unique in its table
    pub handle: u64,
    /// name of its chain
    pub chain: String,
    /// the rule itself
    pub rule: Rule,
}

impl Nft {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let client = Client::open(NETLINK_NETFILTER)?;
        Ok(Self { client })
    }

    /// None: the kernel has no nftables.
    pub fn open_if_supported() -> Result<Option<Self>, Error> {
        match Nft::open() {
            Err(error) if error.is_unsupported() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Commits all changes or none; an empty transaction is not sent. The error is that of the
    /// first change that was refused.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        if transaction.is_empty() {
            return Ok(());
        }
        let (begin, end) = (message::begin(transaction.generation), message::end());
        let requests = [&begin].into_iter().chain(&transaction.requests);
        Ok(self.client.transaction(requests.chain([&end]))?)
    }

    /// The number of the ruleset's generation, which each commit by any program raises.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let question = request(
            NetfilterProtoFamily::Unspec,
            NfTablesMessage::GetGen(GenMessage {
                attributes: Vec::new(),
            }),
            Mode::Existing,
            "read nftables generation",
        );
        Ok(self.client.get(&question, |kind, payload| {
            let object = Object::read(kind, payload)?.of(NEW_GENERATION);
            object
                .and_then(reply::generation)
                .ok_or_else(|| Malformed("no number".into()))
        })?)
    }

    /// A table with its chains and rules; None if it is absent. Equal to the table that was last
    /// given to [`Transaction::set_table`] if nothing changed since.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<Table>, Error> {
        let mut generation = self.generation()?;
        for _ in 0..READ_ATTEMPTS {
            let table = self.read_table(family, name)?;
            let now = self.generation()?;
            if now == generation {
                return Ok(table);
            }
            generation = now;
        }
        let what = format!("list table {} {name}", family.as_str());
        Err(linux_net::Error::interrupted(what).into())
    }

    fn read_table(&mut self, family: Family, name: &str) -> Result<Option<Table>, Error> {
        let question = request(
            family,
            NfTablesMessage::GetTable(message::table(name)),
            Mode::Existing,
            format!("list table {} {name}", family.as_str()),
        );
        let table = self.client.get(&question, |kind, payload| {
            let object = Object::read(kind, payload)?.of(NEW_TABLE);
            object
                .and_then(|attributes| reply::table(attributes, family))
                .ok_or_else(|| Malformed("no table".into()))
        });
        let table = match table.map_err(Error::from) {
            Ok(table) => table,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut chains = self.chains(family, name)?;
        for installed in self.rules(family, name, None)? {
            if let Some(chain) = chains
                .iter_mut()
                .find(|chain| chain.name == installed.chain)
            {
                chain.rules.push(installed.rule);
            }
        }
        Ok(Some(Table { chains, ..table }))
    }

    /// Chains of a table, without their rules.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<Chain>, Error> {
        self.dump(
            family,
            NfTablesMessage::GetChain(message::chains()),
            format!("list chains {} {table}", family.as_str()),
            NEW_CHAIN,
            |_, chain| Ok(reply::chain(chain, table)),
        )
    }

    /// Rules of a table or of one chain; none if there is no such table or chain.
    pub fn rules(
        &mut self,
        family: Family,
        table: &str,
        chain: Option<&str>,
    ) -> Result<Vec<Installed>, Error> {
        self.dump(
            family,
            NfTablesMessage::GetRule(message::rules(table, chain, None)),
            format!(
                "list rules {} {table} {}",
                family.as_str(),
                chain.unwrap_or_default()
            ),
            NEW_RULE,
            |_, rule| Ok(reply::rule(rule, table)),
        )
    }

    /// Elements of a set or map whose types are known, by key; none if there is no such table or
    /// set.
    ///
    /// The kernel lists a set in parts and finds the start of each by the number of elements that
    /// it listed before (nft_rhash_walk). While it resizes the set's hash table their order
    /// changes, so it lists some twice, and leaves out as many: such a list is read again.
    pub fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &Set,
    ) -> Result<Vec<Element>, Error> {
        for _ in 0..READ_ATTEMPTS {
            let parts = self.element_lists(family, table, &set.name, |list| {
                reply::elements(list)
                    .map(|element| set.read(element))
                    .collect::<Read<Vec<_>>>()
            })?;
            let mut elements: Vec<Element> = parts.into_iter().flatten().collect();
            elements.sort_by(|a, b| a.key.cmp(&b.key));
            if all_differ(&elements) {
                return Ok(elements);
            }
            thread::sleep(RESIZE_DELAY);
        }
        let what = format!("list set {} {table} {}", family.as_str(), set.name);
        Err(linux_net::Error::interrupted(what).into())
    }

    /// The number of elements of a set or map of any types; 0 if there is no such table or set.
    pub fn element_count(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> Result<usize, Error> {
        let parts =
            self.element_lists(family, table, set, |list| Ok(reply::elements(list).count()))?;
        Ok(parts.into_iter().sum())
    }

    fn element_lists<T>(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        mut read: impl FnMut(Attributes<'_>) -> Read<T>,
    ) -> Result<Vec<T>, Error> {
        self.dump(
            family,
            NfTablesMessage::GetSetElement(message::elements(table, set, &[], false)),
            format!("list set {} {table} {set}", family.as_str()),
            NEW_ELEMENT,
            |_, list| read(list).map(Some),
        )
    }

    /// Names of all tables of the families in [`Family`].
    pub fn tables(&mut self) -> Result<Vec<(Family, String)>, Error> {
        self.dump(
            NetfilterProtoFamily::Unspec,
            NfTablesMessage::GetTable(message::tables()),
            "list tables".to_owned(),
            NEW_TABLE,
            |family, table| {
                Ok(family.and_then(|family| Some((family, reply::table(table, family)?.name))))
            },
        )
    }

    /// Lists objects of one kind (NFT_MSG_NEW*). `read` returns None for those that are not wanted.
    fn dump<T>(
        &mut self,
        family: impl Into<NetfilterProtoFamily>,
        inner: NfTablesMessage,
        what: String,
        wanted: u16,
        mut read: impl FnMut(Option<Family>, Attributes<'_>) -> Read<Option<T>>,
    ) -> Result<Vec<T>, Error> {
        let question = request(family, inner, Mode::Dump, what);
        let found = self.client.dump(&question, |kind, payload| {
            let object = Object::read(kind, payload)?;
            match object.of(wanted) {
                Some(attributes) => read(object.family(), attributes),
                None => Ok(None),
            }
        });
        match found.map_err(Error::from) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            found => found,
        }
    }
}

/// Whether no two of the elements, which are in the order of their keys, have one key.
fn all_differ(elements: &[Element]) -> bool {
    elements.windows(2).all(|pair| pair[0].key != pair[1].key)
}
