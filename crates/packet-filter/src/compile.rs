//! Statements to expressions, instruction for instruction what `nft` makes of the same words.
use crate::{
    Family, Rule, Statement,
    expression::{ACCEPT, DROP, Expression, GOTO, JUMP, RETURN},
    rule::Field,
};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// NFT_META_*
pub(crate) const META_PROTOCOL: u32 = 1;
pub(crate) const META_MARK: u32 = 3;
pub(crate) const META_IIFNAME: u32 = 6;
pub(crate) const META_OIFNAME: u32 = 7;
pub(crate) const META_NFPROTO: u32 = 15;
pub(crate) const META_L4PROTO: u32 = 16;
/// NFT_CT_STATE, NFT_CT_STATUS
pub(crate) const CT_STATE: u32 = 0;
pub(crate) const CT_STATUS: u32 = 2;
/// NF_CT_STATE_BIT(ESTABLISHED) | NF_CT_STATE_BIT(RELATED)
pub(crate) const ESTABLISHED_RELATED: u32 = 6;
/// IPS_DST_NAT
pub(crate) const STATUS_DNAT: u32 = 1 << 5;
/// NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE, RTN_LOCAL
pub(crate) const FIB_DADDR: u32 = 2;
pub(crate) const FIB_ADDRTYPE: u32 = 3;
pub(crate) const RTN_LOCAL: u32 = 2;
/// NFT_PAYLOAD_*_HEADER
pub(crate) const LINK: u32 = 0;
pub(crate) const NETWORK: u32 = 1;
pub(crate) const TRANSPORT: u32 = 2;
/// NF_NAT_RANGE_PROTO_SPECIFIED, NF_NAT_RANGE_PROTO_RANDOM_FULLY
pub(crate) const PROTO_SPECIFIED: u32 = 2;
pub(crate) const RANDOM_FULLY: u32 = 16;
/// NFPROTO_IPV4, NFPROTO_IPV6
pub(crate) const IPV4: u8 = 2;
pub(crate) const IPV6: u8 = 10;
/// ETH_P_IP, ETH_P_IPV6
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IFNAMSIZ
pub(crate) const NAME_LEN: usize = 16;
/// Byte offsets in the headers.
pub(crate) const ETHER_SADDR: u32 = 6;
pub(crate) const DPORT: u32 = 2;

/// NFT_REG_1
pub(crate) const R1: u32 = 1;
/// NFT_REG_2
pub(crate) const R2: u32 = 2;

/// Offset of an address in its header.
pub(crate) fn address_offset(ipv6: bool, source: bool) -> u32 {
    match (ipv6, source) {
        (false, true) => 12,
        (false, false) => 16,
        (true, true) => 8,
        (true, false) => 24,
    }
}

/// The register that starts `words` 4-byte words after the first, named as the kernel names it.
pub(crate) fn register(words: usize) -> u32 {
    let words = words as u32;
    if words.is_multiple_of(4) {
        R1 + words / 4
    } else {
        8 + words
    }
}

impl Field {
    /// Bytes in a key, without padding.
    pub(crate) fn len(self) -> usize {
        match self {
            Field::Saddr4 | Field::Daddr4 | Field::SaddrNet4(_) => 4,
            Field::Saddr6 | Field::Daddr6 | Field::SaddrNet6(_) => 16,
            Field::L4Proto => 1,
            Field::Dport => 2,
            Field::Iifname => NAME_LEN,
        }
    }

    pub(crate) fn load(self, reg: u32) -> Expression {
        let payload = |base, offset| Expression::Payload {
            base,
            offset,
            len: self.len() as u32,
            reg,
        };
        match self {
            Field::Saddr4 | Field::SaddrNet4(_) => payload(NETWORK, address_offset(false, true)),
            Field::Daddr4 => payload(NETWORK, address_offset(false, false)),
            Field::Saddr6 | Field::SaddrNet6(_) => payload(NETWORK, address_offset(true, true)),
            Field::Daddr6 => payload(NETWORK, address_offset(true, false)),
            Field::L4Proto => Expression::Meta {
                key: META_L4PROTO,
                reg,
            },
            Field::Dport => payload(TRANSPORT, DPORT),
            Field::Iifname => Expression::Meta {
                key: META_IIFNAME,
                reg,
            },
        }
    }

    /// What is done with it before it is looked up.
    pub(crate) fn mask(self, reg: u32) -> Option<Expression> {
        let (Field::SaddrNet4(prefix) | Field::SaddrNet6(prefix)) = self else {
            return None;
        };
        Some(Expression::Bitwise {
            reg,
            mask: prefix_mask(prefix, self.len()),
            xor: vec![0; self.len()],
        })
    }

    /// Those that are loaded as they are.
    pub(crate) const PLAIN: [Field; 7] = [
        Field::Saddr4,
        Field::Daddr4,
        Field::Saddr6,
        Field::Daddr6,
        Field::L4Proto,
        Field::Dport,
        Field::Iifname,
    ];
}

/// `len` bytes of which `prefix` bits are set.
pub(crate) fn prefix_mask(prefix: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|byte| match usize::from(prefix).saturating_sub(byte * 8) {
            0 => 0,
            bits @ 1..=7 => u8::MAX << (8 - bits),
            _ => u8::MAX,
        })
        .collect()
}

/// What has been established about the packet so far in a rule, so that nothing is asked twice.
#[derive(Default)]
struct Known {
    ipv6: Option<bool>,
    protocol: Option<u8>,
}

/// The whole rule.
pub(crate) fn compile(family: Family, rule: &Rule) -> Vec<Expression> {
    let mut known = Known::default();
    let mut out = Vec::new();
    for statement in &rule.statements {
        compile_statement(family, statement, &mut known, &mut out);
    }
    out
}

fn equal(data: impl Into<Vec<u8>>) -> Expression {
    Expression::Cmp {
        reg: R1,
        equal: true,
        data: data.into(),
    }
}

fn meta(key: u32) -> Expression {
    Expression::Meta { key, reg: R1 }
}

fn and_xor(mask: u32, xor: u32) -> Expression {
    Expression::Bitwise {
        reg: R1,
        mask: mask.to_ne_bytes().to_vec(),
        xor: xor.to_ne_bytes().to_vec(),
    }
}

fn compile_statement(
    family: Family,
    statement: &Statement,
    known: &mut Known,
    out: &mut Vec<Expression>,
) {
    let verdict = |code, chain: Option<&String>| Expression::Verdict {
        code,
        chain: chain.cloned(),
    };
    match statement {
        Statement::Saddr { net, negated } => address(family, *net, true, *negated, known, out),
        Statement::Daddr { net, negated } => address(family, *net, false, *negated, known, out),
        Statement::Mark { value, mask } => {
            out.push(meta(META_MARK));
            if *mask != u32::MAX {
                out.push(and_xor(*mask, 0));
            }
            out.push(equal(value.to_ne_bytes()));
        }
        Statement::SetMark { bits } => out.extend([
            meta(META_MARK),
            and_xor(!bits, *bits),
            Expression::SetMeta {
                key: META_MARK,
                reg: R1,
            },
        ]),
        Statement::Iifname(name) => out.extend([meta(META_IIFNAME), equal(name_bytes(name))]),
        Statement::Oifname(name) => out.extend([meta(META_OIFNAME), equal(name_bytes(name))]),
        Statement::Dport { protocol, port } => {
            if known.protocol != Some(*protocol) {
                out.extend([meta(META_L4PROTO), equal([*protocol])]);
                known.protocol = Some(*protocol);
            }
            out.extend([Field::Dport.load(R1), equal(port.to_be_bytes())]);
        }
        Statement::FibDaddrLocal => out.extend([
            Expression::Fib {
                flags: FIB_DADDR,
                result: FIB_ADDRTYPE,
                reg: R1,
            },
            equal(RTN_LOCAL.to_ne_bytes()),
        ]),
        Statement::EtherSaddr(mac) => out.extend([
            Expression::Payload {
                base: LINK,
                offset: ETHER_SADDR,
                len: 6,
                reg: R1,
            },
            equal(*mac),
        ]),
        Statement::CtEstablished => out.extend(connection(CT_STATE, ESTABLISHED_RELATED)),
        Statement::CtDnat => out.extend(connection(CT_STATUS, STATUS_DNAT)),
        Statement::InSet { key, set } => lookup(key, set, None, out),
        Statement::VerdictMap { key, map } => lookup(key, map, Some(0), out),
        Statement::Masquerade { fully_random } => out.push(Expression::Masq {
            flags: if *fully_random { RANDOM_FULLY } else { 0 },
        }),
        Statement::Dnat { ip, port } => dnat(*ip, *port, out),
        Statement::DnatMap { key, map, ipv6 } => {
            lookup(key, map, Some(R1), out);
            out.push(Expression::Dnat {
                family: u32::from(if *ipv6 { IPV6 } else { IPV4 }),
                addr: R1,
                port: Some(register(if *ipv6 { 4 } else { 1 })),
                flags: 0,
            });
        }
        Statement::Return => out.push(verdict(RETURN, None)),
        Statement::Accept => out.push(verdict(ACCEPT, None)),
        Statement::Drop => out.push(verdict(DROP, None)),
        Statement::Jump(chain) => out.push(verdict(JUMP, Some(chain))),
        Statement::Goto(chain) => out.push(verdict(GOTO, Some(chain))),
        // the kernel refuses it by name: what could not be read cannot be written either
        Statement::Unknown(name) => out.push(Expression::Other(name.clone())),
    }
}

/// The whole field, or the bytes before a `*`.
fn name_bytes(name: &str) -> Vec<u8> {
    match name.strip_suffix('*') {
        Some(start) => start.as_bytes().to_vec(),
        None => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(NAME_LEN, 0);
            bytes
        }
    }
}

fn connection(key: u32, bits: u32) -> [Expression; 3] {
    [
        Expression::Ct { key, reg: R1 },
        and_xor(bits, 0),
        Expression::Cmp {
            reg: R1,
            equal: false,
            data: vec![0; 4],
        },
    ]
}

fn lookup(key: &[Field], set: &str, dreg: Option<u32>, out: &mut Vec<Expression>) {
    let mut words = 0;
    for field in key {
        out.push(field.load(register(words)));
        out.extend(field.mask(register(words)));
        words += field.len().div_ceil(4);
    }
    out.push(Expression::Lookup {
        set: set.to_owned(),
        reg: R1,
        dreg,
        inverted: false,
    });
}

fn dnat(ip: IpAddr, port: Option<u16>, out: &mut Vec<Expression>) {
    let (family, data) = match ip {
        IpAddr::V4(ip) => (IPV4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (IPV6, ip.octets().to_vec()),
    };
    out.push(Expression::Immediate { reg: R1, data });
    out.extend(port.map(|port| Expression::Immediate {
        reg: R2,
        data: port.to_be_bytes().to_vec(),
    }));
    out.push(Expression::Dnat {
        family: u32::from(family),
        addr: R1,
        port: port.map(|_| R2),
        flags: if port.is_some() { PROTO_SPECIFIED } else { 0 },
    });
}

/// The address or, for a prefix of whole bytes, just these bytes; any other prefix is masked.
fn address(
    family: Family,
    net: IpNetwork,
    source: bool,
    negated: bool,
    known: &mut Known,
    out: &mut Vec<Expression>,
) {
    let ipv6 = net.is_ipv6();
    if known.ipv6 != Some(ipv6) {
        out.extend(layer3(family, ipv6).into_iter().flatten());
        known.ipv6 = Some(ipv6);
    }
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut data = octets(net.network());
    let whole = !net.prefix().is_multiple_of(8) || net.prefix() == 0;
    if !whole {
        data.truncate(usize::from(net.prefix() / 8));
    }
    out.push(Expression::Payload {
        base: NETWORK,
        offset: address_offset(ipv6, source),
        len: data.len() as u32,
        reg: R1,
    });
    if whole {
        out.push(Expression::Bitwise {
            reg: R1,
            mask: octets(net.mask()),
            xor: vec![0; data.len()],
        });
    }
    out.push(Expression::Cmp {
        reg: R1,
        equal: !negated,
        data,
    });
}

/// What a table that sees more than one protocol must ask first.
pub(crate) fn layer3(family: Family, ipv6: bool) -> Option<[Expression; 2]> {
    match family {
        Family::Ip | Family::Ip6 => None,
        Family::Inet => Some([meta(META_NFPROTO), equal([if ipv6 { IPV6 } else { IPV4 }])]),
        Family::Bridge => {
            let ethertype = if ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
            Some([meta(META_PROTOCOL), equal(ethertype.to_be_bytes())])
        }
    }
}
