//! Objects of the kernel's, read back into tables, chains, rules and elements.
use crate::{
    BaseChain, Chain, ChainType, Family, Hook, Installed, Rule,
    attributes::Attributes,
    decompile::decompile,
    expression::Expression,
    message::{hook_number, type_name},
    user_data,
};
use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterProtoFamily};

/// NFT_MSG_NEW*, with NFNL_SUBSYS_NFTABLES
pub(crate) const NEW_TABLE: u16 = 0x0a00;
pub(crate) const NEW_CHAIN: u16 = 0x0a03;
pub(crate) const NEW_RULE: u16 = 0x0a06;
pub(crate) const NEW_ELEMENT: u16 = 0x0a0c;
pub(crate) const NEW_GENERATION: u16 = 0x0a0f;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_USERDATA: u16 = 12;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_GEN_ID: u16 = 1;
/// struct nfgenmsg
const FAMILY_HEADER: usize = 4;

/// A message that holds an object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// subsystem and message
    pub(crate) kind: u16,
    pub(crate) family: NetfilterProtoFamily,
    /// behind the family's header
    pub(crate) payload: Vec<u8>,
}

impl NetlinkDeserializable for Object {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let family = NetfilterHeader::parse(payload)?.family;
        Ok(Object {
            kind: header.message_type,
            family,
            payload: payload[FAMILY_HEADER..].to_vec(),
        })
    }
}

impl Object {
    /// Its attributes, if it is of that kind.
    pub(crate) fn of(&self, kind: u16) -> Option<Attributes<'_>> {
        (self.kind == kind).then(|| Attributes::read(&self.payload))
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

/// Name and comment.
pub(crate) fn table(attributes: &Attributes) -> Option<(String, Option<String>)> {
    let comment = attributes.get(NFTA_TABLE_USERDATA);
    Some((
        attributes.text(NFTA_TABLE_NAME)?.to_owned(),
        comment.and_then(user_data::read_comment),
    ))
}

/// A chain of that table, without rules. A base chain of a kind that we do not make is given as a regular one.
pub(crate) fn chain(attributes: &Attributes, table: &str) -> Option<Chain> {
    if attributes.text(NFTA_CHAIN_TABLE)? != table {
        return None;
    }
    let comment = attributes.get(NFTA_CHAIN_USERDATA);
    Some(Chain {
        name: attributes.text(NFTA_CHAIN_NAME)?.to_owned(),
        comment: comment.and_then(user_data::read_comment),
        base: base(attributes),
        rules: Vec::new(),
    })
}

fn base(attributes: &Attributes) -> Option<BaseChain> {
    let hook = attributes.nested(NFTA_CHAIN_HOOK);
    let number = hook.u32(NFTA_HOOK_HOOKNUM)?;
    let name = attributes.text(NFTA_CHAIN_TYPE)?;
    let hooks = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    Some(BaseChain {
        chain_type: [ChainType::Filter, ChainType::Nat, ChainType::Route]
            .into_iter()
            .find(|kind| type_name(*kind) == name)?,
        hook: hooks
            .into_iter()
            .find(|hook| u32::from(hook_number(*hook)) == number)?,
        priority: hook.u32(NFTA_HOOK_PRIORITY)? as i32,
        accept: attributes.u32(NFTA_CHAIN_POLICY) != Some(0),
    })
}

/// A rule of that table.
pub(crate) fn rule(family: Family, attributes: &Attributes, table: &str) -> Option<Installed> {
    if attributes.text(NFTA_RULE_TABLE)? != table {
        return None;
    }
    let expressions: Vec<_> = attributes
        .list(NFTA_RULE_EXPRESSIONS)
        .map(|expression| Expression::decode(&expression))
        .collect();
    let comment = attributes.get(NFTA_RULE_USERDATA);
    Some(Installed {
        handle: attributes.u64(NFTA_RULE_HANDLE)?,
        chain: attributes.text(NFTA_RULE_CHAIN)?.to_owned(),
        rule: Rule {
            statements: decompile(family, &expressions),
            comment: comment.and_then(user_data::read_comment),
        },
    })
}

/// Elements of a set, each as its attributes.
pub(crate) fn elements<'b>(attributes: &Attributes<'b>) -> impl Iterator<Item = Attributes<'b>> {
    attributes.list(NFTA_SET_ELEM_LIST_ELEMENTS)
}

/// The number of the ruleset's generation.
pub(crate) fn generation(attributes: &Attributes) -> Option<u32> {
    attributes.u32(NFTA_GEN_ID)
}
