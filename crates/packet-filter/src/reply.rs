//! Reading messages of the kernel into tables, chains, rules and elements.

use crate::{
    BaseChain, Chain, ChainType, Family, Hook, Installed, Rule, Table, decode,
    message::{hook_number, type_name},
    user_data,
};
use linux_net::netlink::{Attributes, Read, header};
use netlink_packet_netfilter::NetfilterProtoFamily;

/// NFT_MSG_NEW*, with NFNL_SUBSYS_NFTABLES
pub(crate) const NEW_TABLE: u16 = 0x0a00;
pub(crate) const NEW_CHAIN: u16 = 0x0a03;
pub(crate) const NEW_RULE: u16 = 0x0a06;
pub(crate) const NEW_ELEMENT: u16 = 0x0a0c;
pub(crate) const NEW_GENERATION: u16 = 0x0a0f;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USERDATA: u16 = 6;
/// Of NFTA_TABLE_FLAGS.
const NFT_TABLE_F_DORMANT: u32 = 1;
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
/// The element of a list
const NFTA_LIST_ELEM: u16 = 1;

/// A message about an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object<'a> {
    /// subsystem and message type
    kind: u16,
    family: NetfilterProtoFamily,
    pub(crate) attributes: Attributes<'a>,
}

impl<'a> Object<'a> {
    /// `struct nfgenmsg` and the attributes behind it.
    pub(crate) fn read(kind: u16, payload: &'a [u8]) -> Read<Self> {
        let ([family, ..], attributes) = header::<4>(payload)?;
        Ok(Object {
            kind,
            family: family.into(),
            attributes: Attributes::new(attributes),
        })
    }

    /// Its attributes, if it is of that kind.
    pub(crate) fn of(self, kind: u16) -> Option<Attributes<'a>> {
        (self.kind == kind).then_some(self.attributes)
    }

    /// None for a family that [`Family`] has not (arp, netdev).
    pub(crate) fn family(self) -> Option<Family> {
        match self.family {
            NetfilterProtoFamily::IPv4 => Some(Family::Ip),
            NetfilterProtoFamily::IPv6 => Some(Family::Ip6),
            NetfilterProtoFamily::Inet => Some(Family::Inet),
            NetfilterProtoFamily::Bridge => Some(Family::Bridge),
            _ => None,
        }
    }
}

/// The attributes of each element of a list.
fn list<'a>(attributes: Attributes<'a>, kind: u16) -> impl Iterator<Item = Attributes<'a>> {
    let list = attributes.nested(kind).iter();
    list.filter(|attribute| attribute.kind == NFTA_LIST_ELEM)
        .map(|attribute| Attributes::new(attribute.value))
}

/// A table of that family, without chains.
pub(crate) fn table(attributes: Attributes<'_>, family: Family) -> Option<Table> {
    let comment = attributes.get(NFTA_TABLE_USERDATA);
    let flags = attributes.u32_be(NFTA_TABLE_FLAGS).unwrap_or_default();
    Some(Table {
        family,
        name: attributes.text(NFTA_TABLE_NAME)?.to_owned(),
        comment: comment.and_then(user_data::read_comment),
        chains: Vec::new(),
        dormant: flags & NFT_TABLE_F_DORMANT != 0,
    })
}

/// A chain of that table, without rules. A base chain with a hook that [`Hook`] has not is read as
/// a regular one.
pub(crate) fn chain(attributes: Attributes<'_>, table: &str) -> Option<Chain> {
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

fn base(attributes: Attributes<'_>) -> Option<BaseChain> {
    let hook = attributes.nested(NFTA_CHAIN_HOOK);
    let number = hook.u32_be(NFTA_HOOK_HOOKNUM)?;
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
        priority: hook.u32_be(NFTA_HOOK_PRIORITY)? as i32,
        accept: attributes.u32_be(NFTA_CHAIN_POLICY) != Some(0),
    })
}

/// A rule of that table.
pub(crate) fn rule(attributes: Attributes<'_>, table: &str) -> Option<Installed> {
    if attributes.text(NFTA_RULE_TABLE)? != table {
        return None;
    }
    let comment = attributes.get(NFTA_RULE_USERDATA);
    Some(Installed {
        handle: attributes.u64_be(NFTA_RULE_HANDLE)?,
        chain: attributes.text(NFTA_RULE_CHAIN)?.to_owned(),
        rule: Rule {
            expressions: decode::rule(list(attributes, NFTA_RULE_EXPRESSIONS)),
            comment: comment.and_then(user_data::read_comment),
        },
    })
}

/// The attributes of each element of a set.
pub(crate) fn elements<'b>(attributes: Attributes<'b>) -> impl Iterator<Item = Attributes<'b>> {
    list(attributes, NFTA_SET_ELEM_LIST_ELEMENTS)
}

/// The number of a generation.
pub(crate) fn generation(attributes: Attributes<'_>) -> Option<u32> {
    attributes.u32_be(NFTA_GEN_ID)
}
