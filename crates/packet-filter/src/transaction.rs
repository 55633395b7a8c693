//! What is done as one: messages between NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
use crate::{
    Chain, Element, Family, Rule, Set, Table,
    message::{self, request},
};
use linux_net::{Request, netlink::Mode};
use netlink_packet_netfilter::nftables::NfTablesMessage;

/// Elements in one message: an attribute is at most 64 KiB long, an element about 200 bytes.
const ELEMENTS: usize = 128;

/// Changes that the kernel makes all or not at all, in their order.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    pub(crate) requests: Vec<Request>,
    /// commit only if the kernel's ruleset is still of this generation
    pub(crate) generation: Option<u32>,
    sets: u32,
}

impl Transaction {
    /// Without any change.
    pub fn new() -> Self {
        Self::default()
    }

    /// It has no change.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Makes the kernel refuse it with ERESTART if the ruleset changed since [`crate::Nft::generation`] returned this number.
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

    /// Table and chains (if absent), every listed chain flushed, its rules put in: the table's chains become exactly this.
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

    /// The table if absent, without chains.
    pub fn add_table(&mut self, family: Family, name: &str, comment: Option<&str>) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewTable(message::new_table(name, comment)),
            Mode::Ensure,
            format!("add table {} {name}", family.as_str()),
        )
    }

    /// The chain if absent (its rules are not looked at).
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &Chain) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewChain(message::new_chain(table, chain)),
            Mode::Ensure,
            format!("add chain {} {table} {}", family.as_str(), chain.name),
        )
    }

    /// Appends a rule.
    pub fn append(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewRule(message::new_rule(table, chain, rule)),
            Mode::Append,
            format!("add rule {} {table} {chain}", family.as_str()),
        )
    }

    /// Puts a rule at the head.
    pub fn insert(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::NewRule(message::new_rule(table, chain, rule)),
            Mode::Ensure,
            format!("insert rule {} {table} {chain}", family.as_str()),
        )
    }

    /// Empties a chain.
    pub fn flush_chain(&mut self, family: Family, table: &str, chain: &str) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::DeleteRule(message::rules(table, Some(chain), None)),
            Mode::Existing,
            format!("flush chain {} {table} {chain}", family.as_str()),
        )
    }

    /// Deletes an (empty, unreferenced) chain.
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

    /// Deletes a whole table.
    pub fn delete_table(&mut self, family: Family, table: &str) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::DeleteTable(message::table(table)),
            Mode::Existing,
            format!("delete table {} {table}", family.as_str()),
        )
    }

    /// The set or map if absent; EEXIST if there is one of other types.
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

    /// Deletes a set that no rule uses.
    pub fn delete_set(&mut self, family: Family, table: &str, set: &str) -> &mut Self {
        self.push(
            family,
            NfTablesMessage::DeleteSet(message::set(table, set)),
            Mode::Existing,
            format!("delete set {} {table} {set}", family.as_str()),
        )
    }

    /// Puts elements in. EEXIST if there is one with the same key, whatever it holds: nobody's is taken over unseen.
    pub fn create_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) -> &mut Self {
        for part in elements.chunks(ELEMENTS) {
            self.push(
                family,
                NfTablesMessage::NewSetElement(message::elements(table, set, part, true)),
                Mode::Create,
                format!("create element {} {table} {set}", family.as_str()),
            );
        }
        self
    }

    /// Takes elements out, by key; ENOENT if one is not there.
    pub fn delete_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) -> &mut Self {
        for part in elements.chunks(ELEMENTS) {
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
