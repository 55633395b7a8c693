//! Attributes to instructions: the other way of [`Expression::encode`].
use crate::expression::{
    DNAT, Expression, INVERTED, NFTA_CT_DREG, NFTA_CT_KEY, NFTA_FIB_DREG, NFTA_FIB_FLAGS,
    NFTA_FIB_RESULT, NFTA_MASQ_FLAGS, NFTA_NAT_FAMILY, NFTA_NAT_FLAGS, NFTA_NAT_REG_ADDR_MAX,
    NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MAX, NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_TYPE,
};
use linux_net::netlink::Attributes;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;

/// What stands in an NFTA_*_DATA.
#[derive(Debug, PartialEq)]
pub(crate) enum Data {
    Value(Vec<u8>),
    Verdict { code: i32, chain: Option<String> },
}

/// It has attributes of these types and no others.
fn only(attributes: Attributes<'_>, kinds: &[u16]) -> bool {
    attributes
        .iter()
        .all(|attribute| kinds.contains(&attribute.kind))
}

/// Reads NFTA_DATA_VALUE or NFTA_DATA_VERDICT.
pub(crate) fn data(attributes: Attributes<'_>) -> Option<Data> {
    if let Some(value) = attributes.get(NFTA_DATA_VALUE) {
        return Some(Data::Value(value.to_vec()));
    }
    let verdict = attributes.nested(NFTA_DATA_VERDICT);
    Some(Data::Verdict {
        code: verdict.u32_be(NFTA_VERDICT_CODE)? as i32,
        chain: verdict.text(NFTA_VERDICT_CHAIN).map(str::to_owned),
    })
}

fn value(attributes: Attributes<'_>) -> Option<Vec<u8>> {
    match data(attributes)? {
        Data::Value(bytes) => Some(bytes),
        Data::Verdict { .. } => None,
    }
}

impl Expression {
    /// What the kernel shows; anything that is not exactly one of ours is `Other`.
    pub(crate) fn decode(element: Attributes<'_>) -> Self {
        let name = element.text(NFTA_EXPR_NAME).unwrap_or("?");
        let data = element.nested(NFTA_EXPR_DATA);
        decode(name, data).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

fn decode(name: &str, data: Attributes<'_>) -> Option<Expression> {
    match name {
        "payload" if only(data, &[1, 2, 3, 4]) => Some(Expression::Payload {
            base: data.u32_be(NFTA_PAYLOAD_BASE)?,
            offset: data.u32_be(NFTA_PAYLOAD_OFFSET)?,
            len: data.u32_be(NFTA_PAYLOAD_LEN)?,
            reg: data.u32_be(NFTA_PAYLOAD_DREG)?,
        }),
        "meta" => {
            let key = data.u32_be(NFTA_META_KEY)?;
            match (data.u32_be(NFTA_META_SREG), data.u32_be(NFTA_META_DREG)) {
                (None, Some(reg)) => Some(Expression::Meta { key, reg }),
                (Some(reg), None) => Some(Expression::SetMeta { key, reg }),
                _ => None,
            }
        }
        "bitwise" => bitwise(data),
        "cmp" => Some(Expression::Cmp {
            reg: data.u32_be(NFTA_CMP_SREG)?,
            equal: match data.u32_be(NFTA_CMP_OP)? {
                0 => true,
                1 => false,
                _ => return None,
            },
            data: value(data.nested(NFTA_CMP_DATA))?,
        }),
        "lookup" => Some(Expression::Lookup {
            set: data.text(NFTA_LOOKUP_SET)?.to_owned(),
            reg: data.u32_be(NFTA_LOOKUP_SREG)?,
            dreg: data.u32_be(NFTA_LOOKUP_DREG),
            inverted: data.u32_be(NFTA_LOOKUP_FLAGS).unwrap_or(0) & INVERTED != 0,
        }),
        "immediate" => match self::data(data.nested(NFTA_IMMEDIATE_DATA))? {
            Data::Value(bytes) => Some(Expression::Immediate {
                reg: data.u32_be(NFTA_IMMEDIATE_DREG)?,
                data: bytes,
            }),
            Data::Verdict { code, chain } => Some(Expression::Verdict { code, chain }),
        },
        "ct" if only(data, &[NFTA_CT_DREG, NFTA_CT_KEY]) => Some(Expression::Ct {
            key: data.u32_be(NFTA_CT_KEY)?,
            reg: data.u32_be(NFTA_CT_DREG)?,
        }),
        "fib" => Some(Expression::Fib {
            flags: data.u32_be(NFTA_FIB_FLAGS)?,
            result: data.u32_be(NFTA_FIB_RESULT)?,
            reg: data.u32_be(NFTA_FIB_DREG)?,
        }),
        "masq" if only(data, &[NFTA_MASQ_FLAGS]) => Some(Expression::Masq {
            flags: data.u32_be(NFTA_MASQ_FLAGS).unwrap_or(0),
        }),
        "nat" if data.u32_be(NFTA_NAT_TYPE)? == DNAT => dnat(data),
        _ => None,
    }
}

/// Mask and xor (operation 0, the only one of older kernels), in place.
fn bitwise(data: Attributes<'_>) -> Option<Expression> {
    const MASK_AND_XOR: [u16; 6] = [
        NFTA_BITWISE_SREG,
        NFTA_BITWISE_DREG,
        NFTA_BITWISE_LEN,
        NFTA_BITWISE_MASK,
        NFTA_BITWISE_XOR,
        NFTA_BITWISE_OP,
    ];
    let reg = data.u32_be(NFTA_BITWISE_SREG)?;
    let plain = only(data, &MASK_AND_XOR)
        && data.u32_be(NFTA_BITWISE_DREG) == Some(reg)
        && data.u32_be(NFTA_BITWISE_OP).unwrap_or(0) == 0;
    let (mask, xor) = (
        value(data.nested(NFTA_BITWISE_MASK))?,
        value(data.nested(NFTA_BITWISE_XOR))?,
    );
    plain.then_some(Expression::Bitwise { reg, mask, xor })
}

/// The kernel shows a single value as a range from it to itself.
fn dnat(data: Attributes<'_>) -> Option<Expression> {
    let addr = data.u32_be(NFTA_NAT_REG_ADDR_MIN)?;
    let port = data.u32_be(NFTA_NAT_REG_PROTO_MIN);
    let single = data.u32_be(NFTA_NAT_REG_ADDR_MAX).unwrap_or(addr) == addr
        && data.u32_be(NFTA_NAT_REG_PROTO_MAX).or(port) == port;
    single.then_some(Expression::Dnat {
        family: data.u32_be(NFTA_NAT_FAMILY)?,
        addr,
        port,
        flags: data.u32_be(NFTA_NAT_FLAGS).unwrap_or(0),
    })
}
