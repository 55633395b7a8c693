//! The messages of NFNL_SUBSYS_NFTABLES, built from tables, chains, rules and sets and read back into them.
use crate::{
    BaseChain, Chain, ChainType, Family, Hook, Installed, Rule,
    compile::compile,
    decompile::decompile,
    expression::Expression,
    set::{Element, Set, ValueType, type_len, type_number},
    user_data,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    nftables::{
        self, ChainAttribute, ChainMessage, HookNumber, InetHookNumber, ListAttribute,
        NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
        SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags,
        TableMessage,
    },
};

/// nft's TYPE_VERDICT with its marker (NFT_DATA_VERDICT).
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

/// None for a family that we do not use (arp, netdev).
pub(crate) fn family(family: NetfilterProtoFamily) -> Option<Family> {
    match family {
        NetfilterProtoFamily::IPv4 => Some(Family::Ip),
        NetfilterProtoFamily::IPv6 => Some(Family::Ip6),
        NetfilterProtoFamily::Inet => Some(Family::Inet),
        NetfilterProtoFamily::Bridge => Some(Family::Bridge),
        _ => None,
    }
}

/// A message about a family's objects (None: all families').
pub(crate) fn message(family: Option<Family>, inner: NfTablesMessage) -> NetfilterMessage {
    let family = family.map_or(NetfilterProtoFamily::Unspec, Into::into);
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
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

/// Name and comment.
pub(crate) fn read_table(message: &TableMessage) -> (String, Option<String>) {
    let (mut name, mut comment) = (String::new(), None);
    for attribute in &message.attributes {
        match attribute {
            TableAttribute::Name(text) => name.clone_from(text),
            TableAttribute::UserData(data) => comment = user_data::read_comment(data),
            _ => {}
        }
    }
    (name, comment)
}

/// All tables.
pub(crate) fn tables() -> TableMessage {
    TableMessage {
        attributes: Vec::new(),
    }
}

/// All chains: the kernel filters by family at most.
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

/// The chain with the name of its table; without rules. A base chain of a kind that we do not make is given as a regular one.
pub(crate) fn read_chain(message: &ChainMessage) -> (String, Chain) {
    let mut table = String::new();
    let mut chain = Chain {
        name: String::new(),
        comment: None,
        base: None,
        rules: Vec::new(),
    };
    let (mut kind, mut hook, mut priority, mut policy) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            ChainAttribute::Table(text) => table.clone_from(text),
            ChainAttribute::Name(text) => chain.name.clone_from(text),
            ChainAttribute::UserData(data) => chain.comment = user_data::read_comment(data),
            ChainAttribute::Policy(number) => policy = Some(*number),
            ChainAttribute::Type(text) => kind = read_type(text),
            ChainAttribute::Hook(attributes) => {
                for attribute in attributes {
                    match attribute {
                        nftables::Hook::Number(number) => hook = read_hook(u32::from(*number)),
                        nftables::Hook::Priority(number) => priority = Some(*number as i32),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if let (Some(chain_type), Some(hook), Some(priority)) = (kind, hook, priority) {
        chain.base = Some(BaseChain {
            chain_type,
            hook,
            priority,
            accept: policy != Some(0),
        });
    }
    (table, chain)
}

fn type_name(kind: ChainType) -> &'static str {
    match kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    }
}

fn read_type(name: &str) -> Option<ChainType> {
    [ChainType::Filter, ChainType::Nat, ChainType::Route]
        .into_iter()
        .find(|kind| type_name(*kind) == name)
}

/// The numbers of NF_INET_* and NF_BR_* are the same.
fn hook_number(hook: Hook) -> InetHookNumber {
    match hook {
        Hook::Prerouting => InetHookNumber::PreRouting,
        Hook::Input => InetHookNumber::LocalIn,
        Hook::Forward => InetHookNumber::Forward,
        Hook::Output => InetHookNumber::LocalOut,
        Hook::Postrouting => InetHookNumber::PostRouting,
    }
}

fn read_hook(number: u32) -> Option<Hook> {
    [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ]
    .into_iter()
    .find(|hook| u32::from(hook_number(*hook)) == number)
}

/// All rules of a table, of a chain, or one of them.
pub(crate) fn rules(table: &str, chain: Option<&str>, handle: Option<u64>) -> RuleMessage {
    let mut attributes = vec![RuleAttribute::Table(table.to_owned())];
    attributes.extend(chain.map(|name| RuleAttribute::Chain(name.to_owned())));
    attributes.extend(handle.map(RuleAttribute::Handle));
    RuleMessage { attributes }
}

pub(crate) fn new_rule(family: Family, table: &str, chain: &str, rule: &Rule) -> RuleMessage {
    let mut message = rules(table, Some(chain), None);
    let expressions = compile(family, rule);
    message.attributes.push(RuleAttribute::Expressions(
        expressions.iter().map(Expression::encode).collect(),
    ));
    if let Some(text) = &rule.comment {
        message
            .attributes
            .push(RuleAttribute::UserData(user_data::comment(text)));
    }
    message
}

/// The table that a rule is in.
pub(crate) fn rule_table(message: &RuleMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Table(name) => Some(name.as_str()),
            _ => None,
        })
}

pub(crate) fn read_rule(family: Family, message: &RuleMessage) -> Installed {
    let mut installed = Installed {
        handle: 0,
        chain: String::new(),
        rule: Rule::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Chain(name) => installed.chain.clone_from(name),
            RuleAttribute::Handle(number) => installed.handle = *number,
            RuleAttribute::UserData(data) => {
                installed.rule.comment = user_data::read_comment(data);
            }
            RuleAttribute::Expressions(list) => {
                let expressions: Vec<_> = list.iter().map(Expression::decode).collect();
                installed.rule.statements = decompile(family, &expressions);
            }
            _ => {}
        }
    }
    installed
}

pub(crate) fn set(table: &str, name: &str) -> SetMessage {
    SetMessage {
        attributes: vec![
            SetAttribute::Table(table.to_owned()),
            SetAttribute::Name(name.to_owned()),
        ],
    }
}

/// `id` is any number that no other new set of the transaction has.
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

pub(crate) fn read_elements(
    message: &SetElementMessage,
) -> impl Iterator<Item = &ListAttribute<SetElementAttribute>> {
    message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            SetElementList::Elements(list) => Some(list),
            _ => None,
        })
        .flatten()
}
