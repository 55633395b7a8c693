//! Hardware addresses.

use std::{fmt, io, str::FromStr};

/// A MAC address of 6 bytes. It is printed in lower-case hex with colons; it is parsed as by Go's
/// `net.ParseMAC`, with colons, hyphens or Cisco dots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

/// The text is no MAC address of 6 bytes. The error's text is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {0}: invalid MAC address")]
pub struct InvalidMac(String);

impl Mac {
    /// A random address: unicast, locally administered.
    pub fn random() -> io::Result<Mac> {
        let mut bytes = [0; 6];
        getrandom::fill(&mut bytes)?;
        bytes[0] = (bytes[0] & 0xfe) | 0x02;
        Ok(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        parse(text).ok_or_else(|| InvalidMac(text.to_owned()))
    }
}

/// Six groups of two digits, or three of four, with one separator.
fn parse(text: &str) -> Option<Mac> {
    let (separator, digits) = match text.as_bytes().get(2)? {
        b':' => (':', 2),
        b'-' => ('-', 2),
        _ => ('.', 4),
    };
    let mut bytes = [0; 6];
    let mut groups = text.split(separator);
    for chunk in bytes.chunks_mut(digits / 2) {
        let group = groups.next()?;
        // from_str_radix accepts "+f"
        if group.len() != digits || !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let value = u16::from_str_radix(group, 16).ok()?.to_be_bytes();
        chunk.copy_from_slice(value.get(2 - digits / 2..)?);
    }
    groups.next().is_none().then_some(Mac(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_are_those_of_go() {
        let mac = Mac([0, 0, 0x5e, 0, 0x53, 0xaf]);
        for text in ["00:00:5e:00:53:af", "00-00-5E-00-53-AF", "0000.5e00.53af"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for text in [
            "",
            "00",
            "00:00:5e:00:53",
            "00:00:5e:00:53:af:01",
            "00:00-5e:00:53:af",
            "0:0:5e:0:53:af",
            "00:00:5e:00:53:ag",
            "+0:00:5e:00:53:af",
            "00005e0053af",
            "0000.5e00",
            "0000.5e00.53a\u{e9}",
            "00:00:5e:00:53:af ",
        ] {
            let error = text.parse::<Mac>().unwrap_err().to_string();
            assert_eq!(error, format!("address {text}: invalid MAC address"));
        }
    }

    #[test]
    fn random_address_is_local_and_unicast() {
        let macs: Vec<_> = (0..32).map(|_| Mac::random().unwrap()).collect();
        assert!(macs.iter().all(|mac| mac.0[0] & 3 == 2), "{macs:?}");
        assert_ne!(macs[0], macs[1]);
    }

    proptest! {
        #[test]
        fn printed_address_is_parsed(bytes: [u8; 6]) {
            prop_assert_eq!(Mac(bytes).to_string().parse(), Ok(Mac(bytes)));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:.\\-é]{0,20}") {
            if let Ok(mac) = text.parse::<Mac>() {
                prop_assert_eq!(mac.to_string().len(), 17);
            }
        }
    }
}
