//! Expressions back to statements: what the kernel shows is compared with what is wanted as statements, never as bytes.
use crate::{
    Family, Statement,
    compile::*,
    expression::{ACCEPT, DROP, Expression, GOTO, JUMP, RETURN},
    rule::Field,
};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All of a rule. What is not known becomes one `Unknown` per expression.
pub(crate) fn decompile(family: Family, expressions: &[Expression]) -> Vec<Statement> {
    let mut reader = Reader {
        family,
        rest: expressions,
        ipv6: match family {
            Family::Ip => Some(false),
            Family::Ip6 => Some(true),
            Family::Inet | Family::Bridge => None,
        },
        protocol: None,
    };
    let mut statements = Vec::new();
    while let Some(first) = reader.rest.first() {
        if let Some((statement, used)) = reader.statement() {
            statements.push(statement);
            reader.rest = &reader.rest[used..];
        } else {
            statements.push(Statement::Unknown(describe(first)));
            reader.rest = &reader.rest[1..];
        }
    }
    statements
}

fn describe(expression: &Expression) -> String {
    match expression {
        Expression::Other(name) => name.clone(),
        other => format!("{other:?}"),
    }
}

struct Reader<'e> {
    family: Family,
    rest: &'e [Expression],
    ipv6: Option<bool>,
    protocol: Option<u8>,
}

/// A statement, and how many expressions it took.
type Found = Option<(Statement, usize)>;

impl Reader<'_> {
    fn statement(&mut self) -> Found {
        self.single()
            .or_else(|| self.match_or_set())
            .or_else(|| self.address())
            .or_else(|| self.dport())
            .or_else(|| self.lookup())
            .or_else(|| self.dnat())
    }

    fn single(&self) -> Found {
        let statement = match self.rest.first()? {
            Expression::Verdict { code, chain } => match (*code, chain) {
                (ACCEPT, None) => Statement::Accept,
                (DROP, None) => Statement::Drop,
                (RETURN, None) => Statement::Return,
                (JUMP, Some(chain)) => Statement::Jump(chain.clone()),
                (GOTO, Some(chain)) => Statement::Goto(chain.clone()),
                _ => return None,
            },
            Expression::Masq { flags: 0 } => Statement::Masquerade {
                fully_random: false,
            },
            Expression::Masq {
                flags: RANDOM_FULLY,
            } => Statement::Masquerade { fully_random: true },
            _ => return None,
        };
        Some((statement, 1))
    }

    /// Loads that are compared with a constant, and the mark's setting.
    fn match_or_set(&self) -> Found {
        use Expression as E;
        let rest = self.rest;
        Some(match rest {
            [
                E::Meta {
                    key: META_MARK,
                    reg: R1,
                },
                E::Cmp {
                    reg: R1,
                    equal: true,
                    data,
                },
                ..,
            ] => {
                let value = word(data)?;
                (
                    Statement::Mark {
                        value,
                        mask: u32::MAX,
                    },
                    2,
                )
            }
            [
                E::Meta {
                    key: META_MARK,
                    reg: R1,
                },
                E::Bitwise { reg: R1, mask, xor },
                E::Cmp {
                    reg: R1,
                    equal: true,
                    data,
                },
                ..,
            ] if word(xor)? == 0 => (
                Statement::Mark {
                    value: word(data)?,
                    mask: word(mask)?,
                },
                3,
            ),
            [
                E::Meta {
                    key: META_MARK,
                    reg: R1,
                },
                E::Bitwise { reg: R1, mask, xor },
                E::SetMeta {
                    key: META_MARK,
                    reg: R1,
                },
                ..,
            ] if word(mask)? == !word(xor)? => (Statement::SetMark { bits: word(xor)? }, 3),
            [
                E::Meta {
                    key: META_IIFNAME,
                    reg: R1,
                },
                E::Cmp {
                    reg: R1,
                    equal: true,
                    data,
                },
                ..,
            ] => (Statement::Iifname(name(data)?), 2),
            [
                E::Meta {
                    key: META_OIFNAME,
                    reg: R1,
                },
                E::Cmp {
                    reg: R1,
                    equal: true,
                    data,
                },
                ..,
            ] => (Statement::Oifname(name(data)?), 2),
            [
                E::Fib {
                    flags: FIB_DADDR,
                    result: FIB_ADDRTYPE,
                    reg: R1,
                },
                E::Cmp {
                    reg: R1,
                    equal: true,
                    data,
                },
                ..,
            ] if word(data)? == RTN_LOCAL => (Statement::FibDaddrLocal, 2),
            [
                E::Payload {
                    base: LINK,
                    offset: ETHER_SADDR,
                    len: 6,
                    reg: R1,
                },
                E::Cmp {
                    reg: R1,
                    equal: true,
                    data,
                },
                ..,
            ] => (Statement::EtherSaddr(data.as_slice().try_into().ok()?), 2),
            [
                E::Ct { key, reg: R1 },
                E::Bitwise { reg: R1, mask, xor },
                E::Cmp {
                    reg: R1,
                    equal: false,
                    data,
                },
                ..,
            ] if word(xor)? == 0 && word(data)? == 0 => match (*key, word(mask)?) {
                (CT_STATE, ESTABLISHED_RELATED) => (Statement::CtEstablished, 3),
                (CT_STATUS, STATUS_DNAT) => (Statement::CtDnat, 3),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// An address, with the question for the protocol before it where the family needs one.
    fn address(&mut self) -> Found {
        for ipv6 in [false, true] {
            let asked = layer3(self.family, ipv6)
                .filter(|question| self.rest.starts_with(question))
                .map_or(0, |question| question.len());
            if asked == 0 && self.ipv6 != Some(ipv6) {
                continue;
            }
            if let Some((statement, used)) = address_match(&self.rest[asked..], ipv6) {
                self.ipv6 = Some(ipv6);
                return Some((statement, asked + used));
            }
        }
        None
    }

    fn dport(&mut self) -> Found {
        use Expression as E;
        let asked = match self.rest {
            [
                E::Meta {
                    key: META_L4PROTO,
                    reg: R1,
                },
                E::Cmp {
                    reg: R1,
                    equal: true,
                    data,
                },
                ..,
            ] => {
                let [protocol] = data.as_slice() else {
                    return None;
                };
                Some(*protocol)
            }
            _ => None,
        };
        let protocol = asked.or(self.protocol)?;
        let skipped = if asked.is_some() { 2 } else { 0 };
        let [
            load,
            E::Cmp {
                reg: R1,
                equal: true,
                data,
            },
            ..,
        ] = &self.rest[skipped..]
        else {
            return None;
        };
        if *load != Field::Dport.load(R1) {
            return None;
        }
        self.protocol = Some(protocol);
        let port = u16::from_be_bytes(data.as_slice().try_into().ok()?);
        Some((Statement::Dport { protocol, port }, skipped + 2))
    }

    /// A key put together field by field, then looked up.
    fn lookup(&self) -> Found {
        let mut key: Vec<Field> = Vec::new();
        let mut words = 0;
        // the last field's register, which may yet be masked
        let mut last = R1;
        for (position, expression) in self.rest.iter().enumerate() {
            if let (Some(field), Expression::Bitwise { .. }) = (key.last_mut(), expression) {
                *field = masked(*field, last, expression)?;
                continue;
            }
            if let Expression::Lookup {
                set,
                reg: R1,
                dreg,
                inverted: false,
            } = expression
            {
                if key.is_empty() {
                    return None;
                }
                let set = set.clone();
                return match dreg {
                    None => Some((Statement::InSet { key, set }, position + 1)),
                    Some(0) => Some((Statement::VerdictMap { key, map: set }, position + 1)),
                    Some(R1) => {
                        let ipv6 = dnat_to_element(self.rest.get(position + 1)?)?;
                        Some((
                            Statement::DnatMap {
                                key,
                                map: set,
                                ipv6,
                            },
                            position + 2,
                        ))
                    }
                    Some(_) => None,
                };
            }
            last = register(words);
            let field = Field::PLAIN
                .into_iter()
                .find(|field| field.load(last) == *expression)?;
            words += field.len().div_ceil(4);
            key.push(field);
        }
        None
    }

    fn dnat(&self) -> Found {
        use Expression as E;
        match self.rest {
            [
                E::Immediate { reg: R1, data },
                E::Dnat {
                    family,
                    addr: R1,
                    port: None,
                    flags,
                },
                ..,
            ] if flags & !3 == 0 => {
                let ip = ip(data, *family)?;
                Some((Statement::Dnat { ip, port: None }, 2))
            }
            [
                E::Immediate { reg: R1, data },
                E::Immediate {
                    reg: R2,
                    data: port,
                },
                E::Dnat {
                    family,
                    addr: R1,
                    port: Some(R2),
                    flags,
                },
                ..,
            ] if flags & !3 == 0 => {
                let ip = ip(data, *family)?;
                let port = u16::from_be_bytes(port.as_slice().try_into().ok()?);
                Some((
                    Statement::Dnat {
                        ip,
                        port: Some(port),
                    },
                    3,
                ))
            }
            _ => None,
        }
    }
}

/// The network field that this address becomes by this mask.
fn masked(field: Field, reg: u32, expression: &Expression) -> Option<Field> {
    let Expression::Bitwise { mask, .. } = expression else {
        return None;
    };
    let prefix = u8::try_from(prefix_of(mask)?).ok()?;
    let field = match field {
        Field::Saddr4 => Field::SaddrNet4(prefix),
        Field::Saddr6 => Field::SaddrNet6(prefix),
        _ => return None,
    };
    (field.mask(reg).as_ref() == Some(expression)).then_some(field)
}

/// Is it the `dnat` that takes address and port from a map's element, and for IPv6?
fn dnat_to_element(expression: &Expression) -> Option<bool> {
    match expression {
        Expression::Dnat {
            family,
            addr: R1,
            port: Some(port),
            flags,
        } if flags & !3 == 0 => {
            let ipv6 = *family == u32::from(IPV6);
            (*port == register(if ipv6 { 4 } else { 1 })).then_some(ipv6)
        }
        _ => None,
    }
}

fn address_match(rest: &[Expression], ipv6: bool) -> Found {
    use Expression as E;
    let [
        E::Payload {
            base: NETWORK,
            offset,
            len,
            reg: R1,
        },
        after @ ..,
    ] = rest
    else {
        return None;
    };
    let size = if ipv6 { 16 } else { 4 };
    let source = [true, false]
        .into_iter()
        .find(|source| address_offset(ipv6, *source) == *offset)?;
    let (prefix, equal, data, used) = match after {
        [
            E::Cmp {
                reg: R1,
                equal,
                data,
            },
            ..,
        ] if *len as usize <= size => (*len * 8, equal, data, 2),
        [
            E::Bitwise { reg: R1, mask, xor },
            E::Cmp {
                reg: R1,
                equal,
                data,
            },
            ..,
        ] if *len as usize == size && xor.iter().all(|byte| *byte == 0) => {
            (prefix_of(mask)?, equal, data, 3)
        }
        _ => return None,
    };
    if data.len() != *len as usize {
        return None;
    }
    let mut octets = data.clone();
    octets.resize(size, 0);
    let address = ip(&octets, u32::from(if ipv6 { IPV6 } else { IPV4 }))?;
    let net = IpNetwork::new(address, u8::try_from(prefix).ok()?).ok()?;
    let negated = !equal;
    let statement = if source {
        Statement::Saddr { net, negated }
    } else {
        Statement::Daddr { net, negated }
    };
    Some((statement, used))
}

/// Leading ones, if nothing but zeros follows.
fn prefix_of(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading = mask
        .iter()
        .try_fold(0, |sum, byte| match byte.leading_ones() {
            8 => Ok(sum + 8),
            rest => Err(sum + rest),
        });
    let (Ok(leading) | Err(leading)) = leading;
    (ones == leading).then_some(ones)
}

fn word(data: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(data.try_into().ok()?))
}

fn name(data: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    if data.len() < NAME_LEN {
        return Some(text(data)? + "*");
    }
    let end = data.iter().position(|byte| *byte == 0)?;
    text(&data[..end])
}

fn ip(data: &[u8], family: u32) -> Option<IpAddr> {
    if family == u32::from(IPV4) {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into())
    } else if family == u32::from(IPV6) {
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
