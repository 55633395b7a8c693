//! The versions of the CNI spec.
use crate::Error;

/// A released version of the CNI spec, oldest first (so that `<` compares ages).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every version, oldest first: what our plugins support.
    pub const ALL: &'static [Version] = &[
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];
    /// The newest.
    pub const CURRENT: Version = Version::V1_1_0;
    /// "1.1.0"
    pub fn as_str(self) -> &'static str {
        todo!()
    }
    /// Exact membership ("" is 0.1.0); unknown -> None.
    pub fn parse(_text: &str) -> Option<Version> {
        todo!()
    }
}

/// The config's version against a plugin's list: code 1 `incompatible CNI versions`, details as upstream.
pub fn negotiate(_config: &str, _supported: &[Version]) -> Result<Version, Error> {
    todo!()
}
