//! The versions of the CNI spec.

use crate::{Code, Error};

/// A released version of the CNI spec; `<` means older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0: interfaces, several addresses, plugin lists
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK; prevResult in DEL
    V0_4_0,
    /// 1.0.0: addresses without `version`
    V1_0_0,
    /// 1.1.0: GC, STATUS, more about interfaces and routes
    V1_1_0,
}

impl Version {
    /// Every version, oldest first. A plugin supports them all unless it says otherwise.
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
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Exact text of a released version; "" is 0.1.0.
    pub fn parse(text: &str) -> Option<Version> {
        if text.is_empty() {
            return Some(Version::V0_1_0);
        }
        Version::ALL
            .iter()
            .copied()
            .find(|version| version.as_str() == text)
    }

    /// The versions whose results have the shape of this one's, oldest first.
    pub fn family(self) -> &'static [Version] {
        match self {
            Version::V0_1_0 | Version::V0_2_0 => &Version::ALL[..2],
            Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => &Version::ALL[2..5],
            Version::V1_0_0 | Version::V1_1_0 => &Version::ALL[5..],
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of a configuration if it is among `supported`, else code 1
/// `incompatible CNI versions`.
pub fn negotiate(config: &str, supported: &[Version]) -> Result<Version, Error> {
    Version::parse(config)
        .filter(|version| supported.contains(version))
        .ok_or_else(|| {
            let supported: Vec<_> = supported
                .iter()
                .map(|version| format!("{:?}", version.as_str()))
                .collect();
            let config = if config.is_empty() { "0.1.0" } else { config };
            Error::new(Code::IncompatibleVersion, "incompatible CNI versions").details(format!(
                "config is {config:?}, plugin supports [{}]",
                supported.join(" ")
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_and_are_ordered() {
        for pair in Version::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(*version));
            assert!(version.family().contains(version));
        }
        assert_eq!(Version::parse(""), Some(Version::V0_1_0));
        assert_eq!(Version::parse("1.0"), None);
    }

    #[test]
    fn only_listed_versions_are_accepted() {
        assert_eq!(negotiate("0.3.1", Version::ALL), Ok(Version::V0_3_1));
        let error = negotiate("9.9.9", &[Version::V0_1_0, Version::V0_2_0]).unwrap_err();
        assert_eq!(
            (error.code, error.msg.as_str()),
            (1, "incompatible CNI versions")
        );
        assert_eq!(
            error.details,
            r#"config is "9.9.9", plugin supports ["0.1.0" "0.2.0"]"#
        );
        let error = negotiate("", &[Version::V0_4_0]).unwrap_err();
        assert_eq!(
            error.details,
            r#"config is "0.1.0", plugin supports ["0.4.0"]"#
        );
    }
}
