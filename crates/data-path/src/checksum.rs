//! The Internet checksum (RFC 1071). Sums are of the words as they are in memory, so that the
//! result is written to memory as it is on every architecture.

use std::net::IpAddr;

/// The sum of the data's words; an odd last byte counts as a word with a zero after it.
pub(crate) fn sum(data: &[u8]) -> u64 {
    let mut words = data.chunks_exact(4);
    let mut sum = 0;
    for word in &mut words {
        sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

/// Folds a sum to 16 bits.
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // four words of 16 bits are folded to one
    sum as u16
}

/// The checksum of data of which the checksum's field is zero or part of `initial`.
pub(crate) fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// The sum of the pseudo header of TCP and UDP (RFC 9293, section 3.1; RFC 8200, section 8.1).
/// `length` is that of the transport header and what follows, in bytes.
pub(crate) fn pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> u64 {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    };
    // packets are shorter than 2^32 bytes
    let rest = [(length as u32).to_be_bytes(), [0, 0, 0, protocol]];
    address(source) + address(destination) + sum(rest.as_flattened())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn simple(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            let low = pair.get(1).copied().unwrap_or_default();
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn known_header_has_its_checksum() {
        // the example of RFC 1071's sum: 0001 f203 f4f5 f6f7
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(sum(&data)), [0x22, 0x0d]);
    }

    proptest! {
        #[test]
        fn same_as_word_by_word(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(finish(sum(&data)), simple(&data).to_be_bytes());
        }

        #[test]
        fn sums_of_parts_add_up(
            data in proptest::collection::vec(any::<u8>(), 0..500),
            cut in 0usize..250,
        ) {
            let cut = (cut * 2).min(data.len() & !1);
            let parts = sum(&data[..cut]) + sum(&data[cut..]);
            prop_assert_eq!(fold(parts), fold(sum(&data)));
        }
    }
}
