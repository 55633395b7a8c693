//! The virtual machine's instructions (linux/netfilter/nf_tables.h) that our rules are made of, to and from their attributes.
//! What netlink-packet-netfilter has no type for (ct, fib, masq, nat) is built from plain attributes here.
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};

/// NFT_REG_VERDICT
const VERDICT: u32 = 0;
/// NF_DROP, NF_ACCEPT
pub(crate) const DROP: i32 = 0;
pub(crate) const ACCEPT: i32 = 1;
/// NFT_JUMP, NFT_GOTO, NFT_RETURN
pub(crate) const JUMP: i32 = -3;
pub(crate) const GOTO: i32 = -4;
pub(crate) const RETURN: i32 = -5;

/// One instruction. Registers are numbered as the kernel does (1..4 of 16 bytes, 8..23 of 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Loads bytes of the packet. `base`: 0 link, 1 network, 2 transport header.
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        reg: u32,
    },
    /// Loads NFT_META_*.
    Meta { key: u32, reg: u32 },
    /// Sets NFT_META_*.
    SetMeta { key: u32, reg: u32 },
    /// Loads NFT_CT_*.
    Ct { key: u32, reg: u32 },
    /// Looks an address up: NFTA_FIB_F_*, NFT_FIB_RESULT_*.
    Fib { flags: u32, result: u32, reg: u32 },
    /// reg = (reg & mask) ^ xor
    Bitwise {
        reg: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Goes on only if the register is equal (or not).
    Cmp {
        reg: u32,
        equal: bool,
        data: Vec<u8>,
    },
    /// Goes on only if the set has the key; a map's value goes to `dreg` (0: a verdict).
    Lookup {
        set: String,
        reg: u32,
        dreg: Option<u32>,
        inverted: bool,
    },
    /// Loads a constant.
    Immediate { reg: u32, data: Vec<u8> },
    /// Ends the rule.
    Verdict { code: i32, chain: Option<String> },
    /// masquerade; NF_NAT_RANGE_*
    Masq { flags: u32 },
    /// dnat; `family` is NFPROTO_*
    Dnat {
        family: u32,
        addr: u32,
        port: Option<u32>,
        flags: u32,
    },
    /// One that we do not make, by name.
    Other(String),
}

pub(crate) const NFTA_CT_DREG: u16 = 1;
pub(crate) const NFTA_CT_KEY: u16 = 2;
pub(crate) const NFTA_FIB_DREG: u16 = 1;
pub(crate) const NFTA_FIB_RESULT: u16 = 2;
pub(crate) const NFTA_FIB_FLAGS: u16 = 3;
pub(crate) const NFTA_MASQ_FLAGS: u16 = 1;
pub(crate) const NFTA_NAT_TYPE: u16 = 1;
pub(crate) const NFTA_NAT_FAMILY: u16 = 2;
pub(crate) const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
pub(crate) const NFTA_NAT_REG_ADDR_MAX: u16 = 4;
pub(crate) const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
pub(crate) const NFTA_NAT_REG_PROTO_MAX: u16 = 6;
pub(crate) const NFTA_NAT_FLAGS: u16 = 7;
/// NFT_NAT_DNAT
pub(crate) const DNAT: u32 = 1;
/// NFT_LOOKUP_F_INV
pub(crate) const INVERTED: u32 = 1;

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

fn value(data: &[u8]) -> DataAttribute {
    DataAttribute::Value(data.to_vec())
}

/// NFTA_DATA_VERDICT of a rule or of a map's element.
pub(crate) fn verdict(code: i32, chain: Option<&str>) -> DataAttribute {
    let mut attributes = vec![VerdictAttribute::Code(Verdict::from(code as u32))];
    attributes.extend(chain.map(|chain| VerdictAttribute::Chain(chain.to_owned())));
    DataAttribute::Verdict(attributes)
}

impl Expression {
    /// An element of NFTA_RULE_EXPRESSIONS.
    pub(crate) fn encode(&self) -> ListAttribute<ExpressionAttribute> {
        let other = |name: &str, attributes| Expressions::Other {
            expression_type: name.to_owned(),
            attributes,
        };
        ListAttribute::from(match self {
            Self::Payload {
                base,
                offset,
                len,
                reg,
            } => Expressions::Payload(vec![
                Payload::DestinationRegister(Register::from(*reg)),
                Payload::Base(*base),
                Payload::Offset(*offset),
                Payload::Len(*len),
            ]),
            Self::Meta { key, reg } => Expressions::Meta(vec![
                Meta::Key(MetaKey::from(*key)),
                Meta::DestinationRegister(Register::from(*reg)),
            ]),
            Self::SetMeta { key, reg } => Expressions::Meta(vec![
                Meta::Key(MetaKey::from(*key)),
                Meta::SourceRegister(Register::from(*reg)),
            ]),
            Self::Ct { key, reg } => other(
                "ct",
                vec![number(NFTA_CT_KEY, *key), number(NFTA_CT_DREG, *reg)],
            ),
            Self::Fib { flags, result, reg } => other(
                "fib",
                vec![
                    number(NFTA_FIB_FLAGS, *flags),
                    number(NFTA_FIB_RESULT, *result),
                    number(NFTA_FIB_DREG, *reg),
                ],
            ),
            Self::Bitwise { reg, mask, xor } => Expressions::Bitwise(vec![
                Bitwise::SourceRegister(Register::from(*reg)),
                Bitwise::DestinationRegister(Register::from(*reg)),
                Bitwise::Length(mask.len() as u32),
                Bitwise::Mask(value(mask)),
                Bitwise::Xor(value(xor)),
            ]),
            Self::Cmp { reg, equal, data } => Expressions::Cmp(vec![
                Cmp::SourceRegister(Register::from(*reg)),
                Cmp::Op(if *equal {
                    Operator::Equal
                } else {
                    Operator::NotEqual
                }),
                Cmp::Data(value(data)),
            ]),
            Self::Lookup {
                set,
                reg,
                dreg,
                inverted,
            } => {
                let mut attributes = vec![
                    Lookup::SourceRegister(Register::from(*reg)),
                    Lookup::Set(set.clone()),
                ];
                attributes.extend(dreg.map(|reg| Lookup::DestinationRegister(reg.into())));
                attributes.extend(inverted.then_some(Lookup::Flags(INVERTED)));
                Expressions::Lookup(attributes)
            }
            Self::Immediate { reg, data } => Expressions::Immediate(vec![
                Immediate::DestinationRegister(Register::from(*reg)),
                Immediate::Data(value(data)),
            ]),
            Self::Verdict { code, chain } => Expressions::Immediate(vec![
                Immediate::DestinationRegister(Register::from(VERDICT)),
                Immediate::Data(verdict(*code, chain.as_deref())),
            ]),
            Self::Masq { flags } => {
                let flags = (*flags != 0).then(|| number(NFTA_MASQ_FLAGS, *flags));
                other("masq", flags.into_iter().collect())
            }
            Self::Dnat {
                family,
                addr,
                port,
                flags,
            } => {
                let mut attributes = vec![
                    number(NFTA_NAT_TYPE, DNAT),
                    number(NFTA_NAT_FAMILY, *family),
                    number(NFTA_NAT_REG_ADDR_MIN, *addr),
                ];
                attributes.extend(port.map(|reg| number(NFTA_NAT_REG_PROTO_MIN, reg)));
                attributes.extend((*flags != 0).then(|| number(NFTA_NAT_FLAGS, *flags)));
                other("nat", attributes)
            }
            Self::Other(name) => other(name, Vec::new()),
        })
    }
}
