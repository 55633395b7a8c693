//! Names made of hashes, as upstream makes them.

use sha2::{Digest, Sha512};
use std::fmt::Write;

/// The first `digits` hexadecimal digits of the SHA-512 of `text`, at most 128.
pub fn sha512_prefix(text: impl AsRef<[u8]>, digits: usize) -> String {
    let mut hex = String::with_capacity(digits + 1);
    for byte in Sha512::digest(text).iter().take(digits.div_ceil(2)) {
        // writing to a String cannot fail
        write!(hex, "{byte:02x}").unwrap_or_default();
    }
    hex.truncate(digits);
    hex
}

/// `text`, or `#` and 32 digits of its hash where it is longer than `max` bytes. Neither a
/// container id nor a network name holds a `#`.
pub fn shortened(text: &str, max: usize) -> String {
    match text.len() <= max {
        true => text.to_owned(),
        false => format!("#{}", sha512_prefix(text, 32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_sha512sum() {
        // printf netc1 | sha512sum
        assert_eq!(sha512_prefix("netc1", 12), "623e1c388032");
        assert_eq!(sha512_prefix("netc1", 11), "623e1c38803");
        assert_eq!(sha512_prefix("netc1", 200).len(), 128);
    }

    #[test]
    fn long_texts_are_shortened_and_stay_distinct() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3).len(), 33);
        assert_ne!(shortened("abcd", 3), shortened("abce", 3));
    }
}
