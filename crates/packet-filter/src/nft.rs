//! nftables over the socket: transactions, and reading back.
use crate::{
    Chain, Element, Error, Family, Rule, Set, Table, Transaction, message,
    reply::{self, NEW_CHAIN, NEW_ELEMENT, NEW_GENERATION, NEW_RULE, NEW_TABLE},
    socket::NetfilterSocket,
};
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    nftables::{GenMessage, NfTablesMessage},
    none::ControlMessage,
};

/// NFNL_MSG_BATCH_BEGIN and its attribute NFNL_BATCH_GENID
const BATCH_BEGIN: u8 = 16;
const BATCH_GENID: u16 = 1;
/// NFNL_SUBSYS_NFTABLES, whose batch it is
const SUBSYSTEM: u16 = 10;
/// How often a table is read again that somebody changes meanwhile.
const READS: u32 = 10;

/// The socket, in the calling thread's network namespace at `open`.
///
/// Closing it after a deletion (of elements too), or after a base chain was declared again, waits 8 to 15 ms for the kernel's
/// clean-up, once for all that it did: so use one socket, and declare base chains only when they are missing.
#[derive(Debug)]
pub struct Nft {
    socket: NetfilterSocket,
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
        Ok(Self {
            socket: NetfilterSocket::open()?,
        })
    }

    /// All or nothing; an empty one is not sent. The error is that of the first message that was refused.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        if transaction.is_empty() {
            return Ok(());
        }
        let begin = transaction
            .generation
            .map(|generation| DefaultNla::new(BATCH_GENID, generation.to_be_bytes().to_vec()));
        let begin = ControlMessage::Other {
            message_type: BATCH_BEGIN,
            attributes: begin.into_iter().collect(),
        };
        let operations = &transaction.operations;
        let messages = std::iter::once((control(begin), 0))
            .chain(
                operations
                    .iter()
                    .map(|operation| (operation.message.clone(), operation.flags)),
            )
            .chain([(control(ControlMessage::BatchEnd), 0)]);
        let refusals = self.socket.exchange(messages, "nftables transaction")?;
        match refusals.into_iter().next() {
            None => Ok(()),
            Some(refusal) => {
                let operation = refusal.position.checked_sub(1);
                let what = operation
                    .and_then(|position| operations.get(position))
                    .map_or("nftables transaction", |operation| &operation.what);
                Err(refusal.into_error(what))
            }
        }
    }

    /// The number that each commit by anybody raises.
    pub fn generation(&mut self) -> Result<u32, Error> {
        const WHAT: &str = "read nftables generation";
        let question = NfTablesMessage::GetGen(GenMessage {
            attributes: Vec::new(),
        });
        let answer = self.socket.get(message::message(None, question), WHAT)?;
        answer
            .as_ref()
            .and_then(|answer| answer.of(NEW_GENERATION))
            .and_then(|attributes| reply::generation(&attributes))
            .ok_or_else(|| Error::decode(WHAT, "no number"))
    }

    /// A whole table as it is in the kernel; None if there is none. Equal to the `Table` that `set_table` was given if nobody touched it.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<Table>, Error> {
        let mut generation = self.generation()?;
        for _ in 0..READS {
            let table = self.read_table(family, name)?;
            let now = self.generation()?;
            if now == generation {
                return Ok(table);
            }
            generation = now;
        }
        Err(Error::Kernel {
            what: format!("list table {} {name}", family.as_str()),
            errno: nix::errno::Errno::EINTR,
            message: Some("others change it faster than it can be read".into()),
        })
    }

    fn read_table(&mut self, family: Family, name: &str) -> Result<Option<Table>, Error> {
        let question = NfTablesMessage::GetTable(message::table(name));
        let what = format!("list table {} {name}", family.as_str());
        let answer = self
            .socket
            .get(message::message(Some(family), question), &what)?;
        let Some(answer) = answer else {
            return Ok(None);
        };
        let (_, comment) = answer
            .of(NEW_TABLE)
            .and_then(|attributes| reply::table(&attributes))
            .ok_or_else(|| Error::decode(&what, "no table"))?;
        let mut chains = self.chains(family, name)?;
        for installed in self.rules(family, name, None)? {
            if let Some(chain) = chains
                .iter_mut()
                .find(|chain| chain.name == installed.chain)
            {
                chain.rules.push(installed.rule);
            }
        }
        Ok(Some(Table {
            family,
            name: name.to_owned(),
            comment,
            chains,
        }))
    }

    /// Chains of a table, without their rules.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<Chain>, Error> {
        let what = format!("list chains {} {table}", family.as_str());
        let question = NfTablesMessage::GetChain(message::chains());
        let question = message::message(Some(family), question);
        self.socket.dump(&question, &what, |object| {
            let chain = object.of(NEW_CHAIN);
            Ok(chain.and_then(|attributes| reply::chain(&attributes, table)))
        })
    }

    /// Rules of a table (or of one chain of it). None if there is no such table or chain.
    pub fn rules(
        &mut self,
        family: Family,
        table: &str,
        chain: Option<&str>,
    ) -> Result<Vec<Installed>, Error> {
        let what = format!(
            "list rules {} {table} {}",
            family.as_str(),
            chain.unwrap_or_default()
        );
        let question = NfTablesMessage::GetRule(message::rules(table, chain, None));
        let question = message::message(Some(family), question);
        self.socket.dump(&question, &what, |object| {
            let rule = object.of(NEW_RULE);
            Ok(rule.and_then(|attributes| reply::rule(family, &attributes, table)))
        })
    }

    /// Elements of a set or map of ours. None if there is no such table or set.
    pub fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &Set,
    ) -> Result<Vec<Element>, Error> {
        let what = format!("list set {} {table} {}", family.as_str(), set.name);
        let question =
            NfTablesMessage::GetSetElement(message::elements(table, &set.name, &[], false));
        let question = message::message(Some(family), question);
        let parts = self.socket.dump(&question, &what, |object| {
            let Some(attributes) = object.of(NEW_ELEMENT) else {
                return Ok(None);
            };
            let elements = reply::elements(&attributes);
            let elements: Result<Vec<_>, _> = elements.map(|element| set.read(&element)).collect();
            elements.map(Some)
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// How many elements a set or map has, whoever made it. 0 if there is no such table or set.
    pub fn element_count(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> Result<usize, Error> {
        let what = format!("list set {} {table} {set}", family.as_str());
        let question = NfTablesMessage::GetSetElement(message::elements(table, set, &[], false));
        let question = message::message(Some(family), question);
        let parts = self.socket.dump(&question, &what, |object| {
            let part = object.of(NEW_ELEMENT);
            Ok(part.map(|attributes| reply::elements(&attributes).count()))
        })?;
        Ok(parts.into_iter().sum())
    }

    /// Names of all tables of the families that we use.
    pub fn tables(&mut self) -> Result<Vec<(Family, String)>, Error> {
        let question = NfTablesMessage::GetTable(message::tables());
        let question = message::message(None, question);
        self.socket.dump(&question, "list tables", |object| {
            let table = object.of(NEW_TABLE).and_then(|table| reply::table(&table));
            Ok(reply::family(object.family).zip(table.map(|(name, _)| name)))
        })
    }
}

fn control(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM),
        message,
    )
}
