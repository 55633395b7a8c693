//! Building messages of nftables from tables, chains, rules and sets.

use crate::{
    Chain, ChainType, Family, Hook, Rule,
    set::{Element, Set, ValueType, type_len, type_number},
    user_data,
};
use linux_net::{Request, netlink::Mode};
use netlink_packet_core::{DefaultNla, NetlinkSerializable};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        self, ChainAttribute, ChainMessage, HookNumber, InetHookNumber, ListAttribute,
        RuleAttribute, RuleMessage, SetAttribute, SetElementList, SetElementMessage, SetFlags,
        SetMessage, TableAttribute, TableFlags, TableMessage,
    },
    none::ControlMessage,
};

/// linux/netfilter/nfnetlink.h
const NFNL_MSG_BATCH_BEGIN: u8 = 16;
const NFNL_BATCH_GENID: u16 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// NFT_DATA_VERDICT (linux/netfilter/nf_tables.h)
const TYPE_VERDICT: u32 = 0xffff_ff00;

impl From<Family> for NetfilterProtoFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::Ip => NetfilterProtoFamily::IPv4,
            Family::Ip6 => NetfilterProtoFamily::IPv6,
            Family::Inet => NetfilterProtoFamily::Inet,
            Family::Bridge => NetfilterProtoFamily::Bridge,
        }
    }
}

/// A request of any subsystem of netfilter. `what` begins the texts of its errors.
pub(crate) fn request(
    family: impl Into<NetfilterProtoFamily>,
    inner: impl Into<NetfilterMessageInner>,
    mode: Mode,
    what: impl Into<String>,
) -> Request {
    let message = NetfilterMessage::new(NetfilterHeader::new(family.into(), 0, 0), inner);
    Request::new(
        NetlinkSerializable::message_type(&message),
        mode,
        &message,
        what,
    )
}

/// NFNL_MSG_BATCH_BEGIN of a transaction that is committed only if the ruleset is of that
/// generation.
pub(crate) fn begin(generation: Option<u32>) -> Request {
    let generation =
        generation.map(|number| DefaultNla::new(NFNL_BATCH_GENID, number.to_be_bytes().to_vec()));
    control(ControlMessage::Other {
        message_type: NFNL_MSG_BATCH_BEGIN,
        attributes: generation.into_iter().collect(),
    })
}

/// NFNL_MSG_BATCH_END
pub(crate) fn end() -> Request {
    control(ControlMessage::BatchEnd)
}

fn control(inner: ControlMessage) -> Request {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFNL_SUBSYS_NFTABLES);
    let message = NetfilterMessage::new(header, inner);
    let kind = NetlinkSerializable::message_type(&message);
    Request::new(kind, Mode::Existing, &message, "nftables transaction")
}

pub(crate) fn table(name: &str) -> TableMessage {
    TableMessage {
        attributes: vec![TableAttribute::Name(name.to_owned())],
    }
}

pub(crate) fn new_table(name: &str, comment: Option<&str>) -> TableMessage {
    let mut message = table(name);
    message
        .attributes
        .push(TableAttribute::Flags(TableFlags::empty()));
    message
        .attributes
        .extend(comment.map(|text| TableAttribute::UserData(user_data::comment(text))));
    message
}

/// Asks for all tables.
pub(crate) fn tables() -> TableMessage {
    TableMessage {
        attributes: Vec::new(),
    }
}

/// Asks for all chains: the kernel filters by family only.
pub(crate) fn chains() -> ChainMessage {
    ChainMessage {
        attributes: Vec::new(),
    }
}

pub(crate) fn chain(table: &str, name: &str) -> ChainMessage {
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(table.to_owned()),
            ChainAttribute::Name(name.to_owned()),
        ],
    }
}

pub(crate) fn new_chain(table: &str, new: &Chain) -> ChainMessage {
    let mut message = chain(table, &new.name);
    if let Some(base) = &new.base {
        message.attributes.extend([
            ChainAttribute::Policy(u32::from(base.accept)),
            ChainAttribute::Type(type_name(base.chain_type).to_owned()),
            ChainAttribute::Hook(vec![
                nftables::Hook::Number(HookNumber::Inet(hook_number(base.hook))),
                nftables::Hook::Priority(base.priority as u32),
            ]),
        ]);
    }
    if let Some(text) = &new.comment {
        message
            .attributes
            .push(ChainAttribute::UserData(user_data::comment(text)));
    }
    message
}

pub(crate) fn type_name(kind: ChainType) -> &'static str {
    match kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    }
}

/// NF_INET_*; NF_BR_* has the same numbers.
pub(crate) fn hook_number(hook: Hook) -> InetHookNumber {
    match hook {
        Hook::Prerouting => InetHookNumber::PreRouting,
        Hook::Input => InetHookNumber::LocalIn,
        Hook::Forward => InetHookNumber::Forward,
        Hook::Output => InetHookNumber::LocalOut,
        Hook::Postrouting => InetHookNumber::PostRouting,
    }
}

/// The rules of a table, those of a chain, or one of them.
pub(crate) fn rules(table: &str, chain: Option<&str>, handle: Option<u64>) -> RuleMessage {
    let mut attributes = vec![RuleAttribute::Table(table.to_owned())];
    attributes.extend(chain.map(|name| RuleAttribute::Chain(name.to_owned())));
    attributes.extend(handle.map(RuleAttribute::Handle));
    RuleMessage { attributes }
}

pub(crate) fn new_rule(table: &str, chain: &str, rule: &Rule) -> RuleMessage {
    let mut message = rules(table, Some(chain), None);
    let expressions = rule.expressions.iter().cloned();
    message.attributes.push(RuleAttribute::Expressions(
        expressions.map(ListAttribute::from).collect(),
    ));
    if let Some(text) = &rule.comment {
        message
            .attributes
            .push(RuleAttribute::UserData(user_data::comment(text)));
    }
    message
}

pub(crate) fn set(table: &str, name: &str) -> SetMessage {
    SetMessage {
        attributes: vec![
            SetAttribute::Table(table.to_owned()),
            SetAttribute::Name(name.to_owned()),
        ],
    }
}

/// `id` is unique among the new sets of the transaction.
pub(crate) fn new_set(table: &str, new: &Set, id: u32) -> SetMessage {
    let mut message = set(table, &new.name);
    let (flags, value) = match &new.value {
        None => (SetFlags::empty(), None),
        Some(ValueType::Verdict) => (SetFlags::Map, Some((TYPE_VERDICT, 0))),
        Some(ValueType::Data(types)) => {
            let value = (type_number(types), type_len(types) as u32);
            (SetFlags::Map, Some(value))
        }
    };
    message.attributes.extend([
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(type_number(&new.key)),
        SetAttribute::KeyLen(type_len(&new.key) as u32),
    ]);
    if let Some((number, len)) = value {
        message
            .attributes
            .extend([SetAttribute::DataType(number), SetAttribute::DataLen(len)]);
    }
    message.attributes.extend([
        SetAttribute::Id(id),
        SetAttribute::UserData(new.user_data()),
    ]);
    message
}

pub(crate) fn elements(
    table: &str,
    set: &str,
    elements: &[Element],
    whole: bool,
) -> SetElementMessage {
    let mut attributes = vec![
        SetElementList::Table(table.to_owned()),
        SetElementList::Set(set.to_owned()),
    ];
    if !elements.is_empty() {
        attributes.push(SetElementList::Elements(
            elements
                .iter()
                .map(|element| element.encode(whole))
                .collect(),
        ));
    }
    SetElementMessage { attributes }
}
