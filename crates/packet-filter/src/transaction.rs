//! Transactions: messages between NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.

use crate::{
    Chain, Element, Family, Rule, Set, Table,
    message::{self, request},
};
use linux_net::{Request, netlink::Mode};
use netlink_packet_netfilter::nftables::NfTablesMessage;

/// Elements in one message: an attribute is at most 64 KiB long, an element some 200 bytes.
const ELEMENTS_PER_MESSAGE: usize = 128;

/// Changes that the kernel makes all or none of, in their order: deletions go first, so that what
/// is deleted can be added again.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    pub(crate) requests: Vec<Request>,
    /// commit only if the kernel's ruleset is still of this generation
    pub(crate) generation: Option<u32>,
    sets: u32,
}

impl Transaction {
    /// A transaction without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// It has no changes.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Makes the kernel refuse it with ERESTART if the ruleset changed since
    /// [`crate::Nft::generation`] returned this number.
    pub fn only_if(&mut self, generation: u32) -> &mut Self {
        self.generation = Some(generation);
        self
    }

    fn push(
        &mut self,
        family: Family,
        inner: NfTablesMessage,
        mode: Mode,
        what: String,
    ) -> &mut Self {
        self.requests.push(request(family, inner, mode, what));
        self
    }

    /// Adds the table and its chains where they are absent, and replaces the rules of these chains.
    /// Other chains of the table stay.
    pub fn set_table(&mut self, table: &Table) -> &mut Self {
        let (family, name) = (table.family, &table.name);
        self.add_table(family, name, table.comment.as_deref());
        for chain in &table.chains {
            self.add_chain(family, name, chain);
        }
        for chain in &table.chains {
            self.flush_chain(family, name, &chain.name);
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                self.append(family, name, &chain.name, rule);
            }
        }
        self
    }

    /// Adds the table without chains, if it is absent.
    pub fn add_table(&mut self, family: Family, name: &str, comment: Option<&str>) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewTable(message::new_table(name, comment)),
            Mode::Ensure,
            format!("add table {} {name}", family.as_str()),
        )
    }

    /// Adds the chain without its rules, if it is absent.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &Chain) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewChain(message::new_chain(table, chain)),
            Mode::Ensure,
            format!("add chain {} {table} {}", family.as_str(), chain.name),
        )
    }

    /// Adds a rule at the end of the chain.
    pub fn append(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewRule(message::new_rule(table, chain, rule)),
            Mode::Append,
            format!("add rule {} {table} {chain}", family.as_str()),
        )
    }

    /// Adds a rule at the start of the chain.
    pub fn insert(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewRule(message::new_rule(table, chain, rule)),
            Mode::Ensure,
            format!("insert rule {} {table} {chain}", family.as_str()),
        )
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, family: Family, table: &str, chain: &str) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::DeleteRule(message::rules(table, Some(chain), None)),
            Mode::Existing,
            format!("flush chain {} {table} {chain}", family.as_str()),
        )
    }

    /// Deletes a chain that is empty and that no rule refers to.
    pub fn delete_chain(&mut self, family: Family, table: &str, chain: &str) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::DeleteChain(message::chain(table, chain)),
            Mode::Existing,
            format!("delete chain {} {table} {chain}", family.as_str()),
        )
    }

    /// Deletes a rule by handle.
    pub fn delete_rule(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        handle: u64,
    ) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::DeleteRule(message::rules(table, Some(chain), Some(handle))),
            Mode::Existing,
            format!(
                "delete rule {} {table} {chain} handle {handle}",
                family.as_str()
            ),
        )
    }

    /// Deletes a table with all that is in it.
    pub fn delete_table(&mut self, family: Family, table: &str) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::DeleteTable(message::table(table)),
            Mode::Existing,
            format!("delete table {} {table}", family.as_str()),
        )
    }

    /// Adds the set or map if it is absent; EEXIST if there is one of other types.
    pub fn add_set(&mut self, family: Family, table: &str, set: &Set) -> &mut Self {
        self.sets += 1;
        let id = self.sets;
        self.push(
            family,
            NfTablesMessage::NewSet(message::new_set(table, set, id)),
            Mode::Ensure,
            format!("add set {} {table} {}", family.as_str(), set.name),
        )
    }

    /// Adds elements; EEXIST if there is one with the same key, whatever its value.
    pub fn create_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) -> &mut Self {
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.push(
                family,
                NfTablesMessage::NewSetElement(message::elements(table, set, part, true)),
                Mode::Create,
                format!("create element {} {table} {set}", family.as_str()),
            );
        }
        self
    }

    /// Deletes elements by key; ENOENT if one is absent.
    pub fn delete_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) -> &mut Self {
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.push(
                family,
                NfTablesMessage::DeleteSetElement(message::elements(table, set, part, false)),
                Mode::Existing,
                format!("delete element {} {table} {set}", family.as_str()),
            );
        }
        self
    }
}
