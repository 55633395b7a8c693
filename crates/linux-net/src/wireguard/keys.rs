//! WireGuard's keys: 32 bytes, as text 44 characters of base64. Of a private or preshared key no
//! text says anything but that it is one.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::{fmt, str::FromStr};

/// Bytes of a key (linux/wireguard.h WG_KEY_LEN).
pub const KEY_LEN: usize = 32;

/// A text is not the base64 of 32 bytes. The text itself is not repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a key: 44 characters of base64 are needed")]
pub struct InvalidKey;

/// Names a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_LEN]);

/// The key of a device (an X25519 scalar).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PrivateKey([u8; KEY_LEN]);

/// A key that two peers share besides.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PresharedKey([u8; KEY_LEN]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(PublicKey)
    }
}

impl PrivateKey {
    /// A key of these bytes. The bits that X25519 fixes are set, as the kernel does.
    pub fn new(mut bytes: [u8; KEY_LEN]) -> Self {
        bytes[0] &= 0xf8;
        bytes[31] = (bytes[31] & 0x7f) | 0x40;
        PrivateKey(bytes)
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The secret as text, for the file that keeps it.
    pub fn text(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl PresharedKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        PresharedKey(bytes)
    }

    /// The secret as text, for another process that has the device.
    pub fn text(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(PrivateKey::new)
    }
}

impl FromStr for PresharedKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(PresharedKey)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(hidden)")
    }
}

/// Strict: no other characters, padding as it must be.
fn decode(text: &str) -> Result<[u8; KEY_LEN], InvalidKey> {
    let mut bytes = [0; KEY_LEN];
    // the decoder estimates one byte more than there is
    let mut space = [0; KEY_LEN + 1];
    match STANDARD.decode_slice(text, &mut space) {
        Ok(KEY_LEN) => {
            bytes.copy_from_slice(&space[..KEY_LEN]);
            Ok(bytes)
        }
        Ok(_) | Err(_) => Err(InvalidKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "KBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Nnc=";

    #[test]
    fn secrets_are_in_no_debug_text() {
        let private: PrivateKey = TEXT.parse().unwrap();
        let preshared: PresharedKey = TEXT.parse().unwrap();
        assert_eq!(format!("{private:?}"), "PrivateKey(hidden)");
        assert_eq!(format!("{preshared:#?}"), "PresharedKey(hidden)");
        let error = format!("{TEXT}!").parse::<PrivateKey>().unwrap_err();
        assert!(!error.to_string().contains("KBka"), "{error}");
    }

    #[test]
    fn other_lengths_and_characters_are_no_keys() {
        for text in [
            "",
            "AAAA",
            &TEXT[..43],
            &format!("{TEXT}\n"),
            &format!("{TEXT}AAAA"),
            // bits behind the 256th
            "KBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Nne=",
            "KBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1N_c=",
            // 33 bytes
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(InvalidKey), "{text}");
        }
    }

    #[test]
    fn private_key_has_the_fixed_bits() {
        let key = PrivateKey::new([0xff; KEY_LEN]);
        assert_eq!((key.bytes()[0], key.bytes()[31]), (0xf8, 0x7f));
        let key = PrivateKey::new([0; KEY_LEN]);
        assert_eq!((key.bytes()[0], key.bytes()[31]), (0, 0x40));
    }

    proptest! {
        #[test]
        fn key_is_read_as_it_was_written(bytes: [u8; KEY_LEN]) {
            let public = PublicKey(bytes);
            let text = public.to_string();
            prop_assert_eq!(text.len(), 44);
            prop_assert_eq!(text.parse(), Ok(public));
            let private = PrivateKey::new(bytes);
            prop_assert_eq!(private.text().parse(), Ok(private));
        }
    }
}
