//! Compiling statements to the instructions that `nft` compiles them to.

use crate::{
    Family, Statement,
    expression::{
        ACCEPT, CT_STATE, CT_STATUS, DROP, FIB_ADDRTYPE, FIB_DADDR, LINK_HEADER, NETWORK_HEADER,
        PROTO_RANDOM_FULLY, TRANSPORT_HEADER, bitwise, compare, ct, dnat, fib, immediate, lookup,
        masquerade, meta, payload, set_meta, verdict,
    },
    statement::Field,
};
use ipnetwork::IpNetwork;
use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{Expressions, MetaKey, Operator, Register, Verdict},
};
use nix::libc::{ETH_P_IP, ETH_P_IPV6, IFNAMSIZ, RTN_LOCAL};
use std::net::IpAddr;

/// NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED)
/// (linux/netfilter/nf_conntrack_common.h)
const ESTABLISHED_RELATED: u32 = 6;
/// IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h)
const STATUS_DNAT: u32 = 1 << 5;
/// Bytes of a hardware address, and the offset of the source's in the Ethernet header.
const ETHER_SADDR: (u32, u32) = (6, 6);
/// Offset of the destination port in the headers of TCP, UDP and SCTP.
const DPORT_OFFSET: u32 = 2;
/// Holds what is compared.
const R1: Register = Register::Reg1;
/// Holds the port of an address in `R1`.
const R2: Register = Register::Reg2;

/// Compiles the statements of one rule.
pub(crate) fn compile(family: Family, statements: &[Statement]) -> Vec<Expressions> {
    let mut compiler = Compiler {
        family,
        ipv6: None,
        protocol: None,
        out: Vec::new(),
    };
    for statement in statements {
        compiler.statement(statement);
    }
    compiler.out
}

struct Compiler {
    family: Family,
    /// the network protocol that the rule matches so far
    ipv6: Option<bool>,
    /// the transport protocol that the rule matches so far
    protocol: Option<u8>,
    out: Vec<Expressions>,
}

impl Compiler {
    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Saddr { net, negated } => self.address(*net, true, *negated),
            Statement::Daddr { net, negated } => self.address(*net, false, *negated),
            Statement::Mark { value, mask } => self.mark(*value, *mask),
            Statement::SetMark { bits } => self.set_mark(*bits),
            Statement::Iifname(name) => self.name(MetaKey::Iifname, name),
            Statement::Oifname(name) => self.name(MetaKey::Oifname, name),
            Statement::Dport { protocol, port } => self.port(*protocol, *port),
            Statement::FibDaddrLocal => self.local_destination(),
            Statement::EtherSaddr(mac) => self.hardware_source(mac),
            Statement::CtEstablished => self.connection(CT_STATE, ESTABLISHED_RELATED),
            Statement::CtDnat => self.connection(CT_STATUS, STATUS_DNAT),
            Statement::InSet { key, set } => self.lookup(key, set, None),
            Statement::VerdictMap { key, map } => self.lookup(key, map, Some(Register::Verdict)),
            Statement::Masquerade { fully_random } => self.masquerade(*fully_random),
            Statement::Dnat { ip, port } => self.dnat(*ip, *port),
            Statement::DnatMap { key, map, ipv6 } => self.dnat_map(key, map, *ipv6),
            Statement::Return => self.out.push(verdict(Verdict::Return, None)),
            Statement::Accept => self.out.push(verdict(ACCEPT, None)),
            Statement::Drop => self.out.push(verdict(DROP, None)),
            Statement::Jump(chain) => self.out.push(verdict(Verdict::Jump, Some(chain))),
            Statement::Goto(chain) => self.out.push(verdict(Verdict::Goto, Some(chain))),
        }
    }

    /// The address or, for a prefix of whole bytes, these bytes alone; any other prefix is masked.
    fn address(&mut self, net: IpNetwork, source: bool, negated: bool) {
        self.network_protocol(net.is_ipv6());
        let mut data = octets(net.network());
        let masked = !net.prefix().is_multiple_of(8) || net.prefix() == 0;
        if !masked {
            data.truncate(usize::from(net.prefix() / 8));
        }
        let offset = address_offset(net.is_ipv6(), source);
        self.out
            .push(payload(NETWORK_HEADER, offset, data.len() as u32, R1));
        if masked {
            let nothing = vec![0; data.len()];
            self.out.push(bitwise(R1, &octets(net.mask()), &nothing));
        }
        let operator = match negated {
            true => Operator::NotEqual,
            false => Operator::Equal,
        };
        self.out.push(compare(R1, operator, &data));
    }

    /// Matches the network protocol, once, in a table that sees more than one.
    fn network_protocol(&mut self, ipv6: bool) {
        if self.ipv6.replace(ipv6) == Some(ipv6) {
            return;
        }
        match self.family {
            Family::Ip | Family::Ip6 => {}
            Family::Inet => self.equal(meta(MetaKey::Nfproto, R1), &[nfproto(ipv6)]),
            Family::Bridge => {
                let ethertype = if ipv6 { ETH_P_IPV6 } else { ETH_P_IP } as u16;
                let load = meta(MetaKey::EtherTypeProtocol, R1);
                self.equal(load, &ethertype.to_be_bytes());
            }
        }
    }

    fn equal(&mut self, load: Expressions, data: &[u8]) {
        self.out.extend([load, compare(R1, Operator::Equal, data)]);
    }

    fn mark(&mut self, value: u32, mask: u32) {
        self.out.push(meta(MetaKey::Mark, R1));
        if mask != u32::MAX {
            self.out.push(and_xor(mask, 0));
        }
        self.out
            .push(compare(R1, Operator::Equal, &value.to_ne_bytes()));
    }

    fn set_mark(&mut self, bits: u32) {
        self.out.extend([
            meta(MetaKey::Mark, R1),
            and_xor(!bits, bits),
            set_meta(MetaKey::Mark, R1),
        ]);
    }

    /// Compares the whole name, padded, or the bytes before a `*`.
    fn name(&mut self, key: MetaKey, name: &str) {
        let data = match name.strip_suffix('*') {
            Some(start) => start.as_bytes().to_vec(),
            None => padded_name(name),
        };
        self.equal(meta(key, R1), &data);
    }

    fn port(&mut self, protocol: u8, port: u16) {
        if self.protocol.replace(protocol) != Some(protocol) {
            self.equal(Field::L4Proto.load(R1), &[protocol]);
        }
        self.equal(Field::Dport.load(R1), &port.to_be_bytes());
    }

    fn local_destination(&mut self) {
        let address_type = u32::from(RTN_LOCAL);
        let load = fib(FIB_DADDR, FIB_ADDRTYPE, R1);
        self.equal(load, &address_type.to_ne_bytes());
    }

    fn hardware_source(&mut self, mac: &[u8]) {
        let (offset, len) = ETHER_SADDR;
        self.equal(payload(LINK_HEADER, offset, len, R1), mac);
    }

    fn connection(&mut self, key: u32, bits: u32) {
        self.out.extend([
            ct(key, R1),
            and_xor(bits, 0),
            compare(R1, Operator::NotEqual, &[0; 4]),
        ]);
    }

    /// Loads the key field by field into consecutive registers.
    fn lookup(&mut self, key: &[Field], set: &str, result: Option<Register>) {
        let mut words = 0;
        for field in key {
            self.out.push(field.load(register(words)));
            self.out.extend(field.mask(register(words)));
            words += field.len().div_ceil(4);
        }
        self.out.push(lookup(set, R1, result));
    }

    fn masquerade(&mut self, fully_random: bool) {
        let flags = if fully_random { PROTO_RANDOM_FULLY } else { 0 };
        self.out.push(masquerade(flags));
    }

    fn dnat(&mut self, ip: IpAddr, port: Option<u16>) {
        self.out.push(immediate(R1, &octets(ip)));
        self.out
            .extend(port.map(|port| immediate(R2, &port.to_be_bytes())));
        let family = nfproto(ip.is_ipv6()).into();
        self.out.push(dnat(family, R1, port.map(|_| R2)));
    }

    /// The element's address is in the first words, its port in the next.
    fn dnat_map(&mut self, key: &[Field], map: &str, ipv6: bool) {
        self.lookup(key, map, Some(R1));
        let port = register(if ipv6 { 4 } else { 1 });
        self.out.push(dnat(nfproto(ipv6).into(), R1, Some(port)));
    }
}

impl Field {
    /// Bytes in a key, without padding.
    fn len(self) -> usize {
        match self {
            Field::Saddr4 | Field::Daddr4 | Field::SaddrNet4(_) => 4,
            Field::Saddr6 | Field::Daddr6 | Field::SaddrNet6(_) => 16,
            Field::L4Proto => 1,
            Field::Dport => 2,
            Field::Iifname => IFNAMSIZ,
        }
    }

    fn load(self, register: Register) -> Expressions {
        let len = self.len() as u32;
        let address = |ipv6, source| {
            let offset = address_offset(ipv6, source);
            payload(NETWORK_HEADER, offset, len, register)
        };
        match self {
            Field::Saddr4 | Field::SaddrNet4(_) => address(false, true),
            Field::Daddr4 => address(false, false),
            Field::Saddr6 | Field::SaddrNet6(_) => address(true, true),
            Field::Daddr6 => address(true, false),
            Field::L4Proto => meta(MetaKey::L4Proto, register),
            Field::Dport => payload(TRANSPORT_HEADER, DPORT_OFFSET, len, register),
            Field::Iifname => meta(MetaKey::Iifname, register),
        }
    }

    /// The mask of a field that is a network.
    fn mask(self, register: Register) -> Option<Expressions> {
        let (Field::SaddrNet4(prefix) | Field::SaddrNet6(prefix)) = self else {
            return None;
        };
        let mask = prefix_mask(prefix, self.len());
        Some(bitwise(register, &mask, &vec![0; self.len()]))
    }
}

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
fn register(words: usize) -> Register {
    let words = words as u32;
    Register::from(match words % 4 {
        0 => u32::from(Register::Reg1) + words / 4,
        _ => u32::from(Register::Reg32_00) + words,
    })
}

/// `len` bytes of which `prefix` bits are set.
fn prefix_mask(prefix: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|byte| match usize::from(prefix).saturating_sub(byte * 8) {
            0 => 0,
            bits @ 1..=7 => u8::MAX << (8 - bits),
            _ => u8::MAX,
        })
        .collect()
}

fn padded_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(IFNAMSIZ, 0);
    bytes
}

/// Marks are in the host's byte order.
fn and_xor(mask: u32, xor: u32) -> Expressions {
    bitwise(R1, &mask.to_ne_bytes(), &xor.to_ne_bytes())
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn nfproto(ipv6: bool) -> u8 {
    match ipv6 {
        true => NetfilterProtoFamily::IPv6,
        false => NetfilterProtoFamily::IPv4,
    }
    .into()
}
