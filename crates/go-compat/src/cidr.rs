//! Addresses and CIDRs as strict as Go's `net.ParseIP` and `net.ParseCIDR`: no missing length, no
//! netmask form, no leading zeros, no `/+8`.

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// A text that is not an address or a network, in Go's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// [`parse`] of anything but `ADDRESS/LENGTH`.
    #[error("invalid CIDR address: {0}")]
    Cidr(String),
    /// [`parse_ip`] of anything but an address.
    #[error("invalid IP address: {0}")]
    Ip(String),
}

/// `net.ParseCIDR`: `10.244.1.5/24`, host bits kept.
///
/// An IPv4-mapped IPv6 address becomes IPv4 with its own prefix length, as Go prints it:
/// `::ffff:10.1.0.0/112` is 10.1.0.0/16.
pub fn parse(text: &str) -> Result<IpNetwork, ParseError> {
    split(text).ok_or_else(|| ParseError::Cidr(text.to_owned()))
}

fn split(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let written: IpAddr = address.parse().ok()?;
    let canonical = written.to_canonical();
    let length = match (written, canonical) {
        (IpAddr::V6(_), IpAddr::V4(_)) => length.checked_sub(96)?,
        _ => length,
    };
    IpNetwork::new(canonical, length).ok()
}

/// `net.ParseIP`; an IPv4-mapped IPv6 address becomes IPv4.
pub fn parse_ip(text: &str) -> Result<IpAddr, ParseError> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(ip.to_canonical()),
        Err(_) => Err(ParseError::Ip(text.to_owned())),
    }
}

/// The network with host bits cleared: 10.244.1.5/24 -> 10.244.1.0/24.
pub fn masked(net: IpNetwork) -> IpNetwork {
    IpNetwork::new(net.network(), net.prefix()).unwrap_or(net)
}

/// The network of one address: 10.1.2.3 -> 10.1.2.3/32.
pub fn host(ip: IpAddr) -> IpNetwork {
    IpNetwork::from(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_as_go_reads_them() {
        for (text, value) in [
            ("10.244.1.5/24", "10.244.1.5/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.0/08", "10.0.0.0/8"),
            ("FC00::1/64", "fc00::1/64"),
            ("::ffff:10.1.2.3/112", "10.1.2.3/16"),
            ("::1.2.3.4/128", "::102:304/128"),
        ] {
            assert_eq!(parse(text).map(|net| net.to_string()), Ok(value.into()));
        }
        assert_eq!(parse_ip("::ffff:1.2.3.4"), Ok([1, 2, 3, 4].into()));
    }

    #[test]
    fn texts_that_go_refuses_are_refused() {
        for text in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/33",
            "10.0.0.0/255.0.0.0",
            "010.0.0.0/8",
            "10.0.0/8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "10.0.0.0/8\r",
            "10.0.0.0/8/8",
            "fe80::1%eth0/64",
            "::/129",
            "::ffff:1.2.3.4/95",
            "10.0.0.0/256",
            "10.0.0.0/99999999999999999999",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid CIDR address: {text}"));
        }
        for text in [
            "",
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4/32",
            "fe80::1%eth0",
            " ::1",
        ] {
            let error = parse_ip(text).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid IP address: {text}"));
        }
    }

    #[test]
    fn masked_clears_and_host_sets_all_bits() {
        let net = parse("10.244.1.5/24").unwrap();
        assert_eq!(masked(net).to_string(), "10.244.1.0/24");
        assert_eq!(host(net.ip()).to_string(), "10.244.1.5/32");
    }

    proptest! {
        #[test]
        fn networks_are_read_back(v4: bool, bits: u128, length in 0u8..=128) {
            let net = match v4 {
                true => IpNetwork::new(IpAddr::V4((bits as u32).into()), length % 33),
                false => IpNetwork::new(IpAddr::V6(bits.into()), length),
            }
            .unwrap();
            prop_assume!(net.ip().to_canonical() == net.ip());
            prop_assert_eq!(parse(&net.to_string()), Ok(net));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:./+ %]{0,24}") {
            parse(&text).ok();
            parse_ip(&text).ok();
        }
    }
}
