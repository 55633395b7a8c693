//! Hardware addresses.
/// A 6-byte MAC. Display: lower-case hex with colons. FromStr accepts colons, hyphens and Cisco dots, as Go's net.ParseMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);
impl Mac {
    /// Random, locally administered, unicast: byte0 = (b & 0xfe) | 0x02.
    pub fn random() -> std::io::Result<Mac> {
        todo!()
    }
}
impl std::fmt::Display for Mac {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
impl std::str::FromStr for Mac {
    type Err = String;
    fn from_str(_s: &str) -> Result<Self, String> {
        todo!()
    }
}
