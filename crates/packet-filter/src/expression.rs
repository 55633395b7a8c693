//! The virtual machine's instructions (linux/netfilter/nf_tables.h) that our rules are made of, to and from their attributes.
//! What netlink-packet-netfilter has no type for (ct, fib, masq, nat) is built from plain attributes here.
use netlink_packet_core::{DefaultNla, Emitable, Nla};
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

const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_MASQ_FLAGS: u16 = 1;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_ADDR_MAX: u16 = 4;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_NAT_REG_PROTO_MAX: u16 = 6;
const NFTA_NAT_FLAGS: u16 = 7;
/// NFT_NAT_DNAT
const DNAT: u32 = 1;
/// NFT_LOOKUP_F_INV
const INVERTED: u32 = 1;

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

/// The other way.
pub(crate) fn read_verdict(attributes: &[VerdictAttribute]) -> Option<(i32, Option<String>)> {
    let (mut code, mut chain) = (None, None);
    for attribute in attributes {
        match attribute {
            VerdictAttribute::Code(verdict) => code = Some(u32::from(*verdict) as i32),
            VerdictAttribute::Chain(name) => chain = Some(name.clone()),
            _ => {}
        }
    }
    Some((code?, chain))
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

    /// What the kernel shows; anything that is not exactly one of ours is `Other`.
    pub(crate) fn decode(element: &ListAttribute<ExpressionAttribute>) -> Self {
        let ListAttribute::Element(attributes) = element else {
            return Self::Other("?".into());
        };
        let (mut name, mut data) = ("?", None);
        for attribute in attributes {
            match attribute {
                ExpressionAttribute::Name(text) => name = text,
                ExpressionAttribute::Data(expressions) => data = Some(expressions),
                _ => {}
            }
        }
        let decoded = match data {
            Some(Expressions::Payload(attributes)) => decode_payload(attributes),
            Some(Expressions::Meta(attributes)) => decode_meta(attributes),
            Some(Expressions::Bitwise(attributes)) => decode_bitwise(attributes),
            Some(Expressions::Cmp(attributes)) => decode_cmp(attributes),
            Some(Expressions::Lookup(attributes)) => decode_lookup(attributes),
            Some(Expressions::Immediate(attributes)) => decode_immediate(attributes),
            Some(Expressions::Other { attributes, .. }) => decode_plain(name, attributes),
            None if name == "masq" => Some(Self::Masq { flags: 0 }),
            _ => None,
        };
        decoded.unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

fn bytes(data: &DataAttribute) -> Option<Vec<u8>> {
    match data {
        DataAttribute::Value(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

fn decode_payload(attributes: &[Payload]) -> Option<Expression> {
    let (mut base, mut offset, mut len, mut reg) = (None, None, None, None);
    for attribute in attributes {
        match attribute {
            Payload::DestinationRegister(register) => reg = Some(u32::from(*register)),
            Payload::Base(value) => base = Some(*value),
            Payload::Offset(value) => offset = Some(*value),
            Payload::Len(value) => len = Some(*value),
            _ => return None,
        }
    }
    Some(Expression::Payload {
        base: base?,
        offset: offset?,
        len: len?,
        reg: reg?,
    })
}

fn decode_meta(attributes: &[Meta]) -> Option<Expression> {
    let (mut key, mut from, mut to) = (None, None, None);
    for attribute in attributes {
        match attribute {
            Meta::Key(value) => key = Some(u32::from(*value)),
            Meta::SourceRegister(register) => from = Some(u32::from(*register)),
            Meta::DestinationRegister(register) => to = Some(u32::from(*register)),
            _ => return None,
        }
    }
    match (from, to) {
        (None, Some(reg)) => Some(Expression::Meta { key: key?, reg }),
        (Some(reg), None) => Some(Expression::SetMeta { key: key?, reg }),
        _ => None,
    }
}

fn decode_bitwise(attributes: &[Bitwise]) -> Option<Expression> {
    let (mut from, mut to, mut mask, mut xor) = (None, None, None, None);
    for attribute in attributes {
        match attribute {
            Bitwise::SourceRegister(register) => from = Some(u32::from(*register)),
            Bitwise::DestinationRegister(register) => to = Some(u32::from(*register)),
            // Op 0: mask and xor, the only one of older kernels
            Bitwise::Length(_) | Bitwise::Op(0) => {}
            Bitwise::Mask(data) => mask = bytes(data),
            Bitwise::Xor(data) => xor = bytes(data),
            _ => return None,
        }
    }
    (from == to).then_some(Expression::Bitwise {
        reg: from?,
        mask: mask?,
        xor: xor?,
    })
}

fn decode_cmp(attributes: &[Cmp]) -> Option<Expression> {
    let (mut reg, mut equal, mut data) = (None, None, None);
    for attribute in attributes {
        match attribute {
            Cmp::SourceRegister(register) => reg = Some(u32::from(*register)),
            Cmp::Op(Operator::Equal) => equal = Some(true),
            Cmp::Op(Operator::NotEqual) => equal = Some(false),
            Cmp::Data(value) => data = bytes(value),
            _ => return None,
        }
    }
    Some(Expression::Cmp {
        reg: reg?,
        equal: equal?,
        data: data?,
    })
}

fn decode_lookup(attributes: &[Lookup]) -> Option<Expression> {
    let (mut set, mut reg, mut dreg, mut flags) = (None, None, None, 0);
    for attribute in attributes {
        match attribute {
            Lookup::Set(name) => set = Some(name.clone()),
            Lookup::SourceRegister(register) => reg = Some(u32::from(*register)),
            Lookup::DestinationRegister(register) => dreg = Some(u32::from(*register)),
            Lookup::Flags(value) => flags = *value,
            Lookup::SetId(_) => {}
            _ => return None,
        }
    }
    Some(Expression::Lookup {
        set: set?,
        reg: reg?,
        dreg,
        inverted: flags & INVERTED != 0,
    })
}

fn decode_immediate(attributes: &[Immediate]) -> Option<Expression> {
    let (mut reg, mut data) = (None, None);
    for attribute in attributes {
        match attribute {
            Immediate::DestinationRegister(register) => reg = Some(u32::from(*register)),
            Immediate::Data(value) => data = Some(value),
            _ => return None,
        }
    }
    match data? {
        DataAttribute::Value(bytes) => Some(Expression::Immediate {
            reg: reg?,
            data: bytes.clone(),
        }),
        DataAttribute::Verdict(attributes) => {
            let (code, chain) = read_verdict(attributes)?;
            Some(Expression::Verdict { code, chain })
        }
        _ => None,
    }
}

/// The attributes of an expression that has no type of its own: kind -> number.
fn plain(attributes: &[DefaultNla]) -> Option<Vec<(u16, u32)>> {
    attributes
        .iter()
        .map(|attribute| {
            let mut value = vec![0; attribute.buffer_len()];
            attribute.emit(&mut value);
            let number = value.get(4..8)?.try_into().ok()?;
            Some((attribute.kind(), u32::from_be_bytes(number)))
        })
        .collect()
}

fn decode_plain(name: &str, attributes: &[DefaultNla]) -> Option<Expression> {
    if !matches!(name, "ct" | "fib" | "masq" | "nat") {
        return None;
    }
    let attributes = plain(attributes)?;
    let get = |wanted: u16| {
        attributes
            .iter()
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, number)| *number)
    };
    let only = |known: &[u16]| attributes.iter().all(|(kind, _)| known.contains(kind));
    match name {
        "ct" if only(&[NFTA_CT_DREG, NFTA_CT_KEY]) => Some(Expression::Ct {
            key: get(NFTA_CT_KEY)?,
            reg: get(NFTA_CT_DREG)?,
        }),
        "fib" => Some(Expression::Fib {
            flags: get(NFTA_FIB_FLAGS)?,
            result: get(NFTA_FIB_RESULT)?,
            reg: get(NFTA_FIB_DREG)?,
        }),
        "masq" if only(&[NFTA_MASQ_FLAGS]) => Some(Expression::Masq {
            flags: get(NFTA_MASQ_FLAGS).unwrap_or(0),
        }),
        "nat" if get(NFTA_NAT_TYPE)? == DNAT => {
            let (addr, port) = (get(NFTA_NAT_REG_ADDR_MIN)?, get(NFTA_NAT_REG_PROTO_MIN));
            // the kernel shows a single value as a range from it to itself
            let single = get(NFTA_NAT_REG_ADDR_MAX).unwrap_or(addr) == addr
                && get(NFTA_NAT_REG_PROTO_MAX).or(port) == port;
            single.then_some(Expression::Dnat {
                family: get(NFTA_NAT_FAMILY)?,
                addr,
                port,
                flags: get(NFTA_NAT_FLAGS).unwrap_or(0),
            })
        }
        _ => None,
    }
}
