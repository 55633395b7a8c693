//! The record of a folder: the SHA-256 of each file that an install command wrote, in the format of
//! `sha256sum`. A name has two lines while its file is being replaced.

use std::{collections::BTreeMap, fmt};

/// SHA-256 in hexadecimal digits.
pub(super) type Digest = String;

const DIGITS: usize = 64;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record(BTreeMap<String, Vec<Digest>>);

impl Record {
    /// Lines of another form are passed over: what they name counts as somebody else's file.
    pub(super) fn parse(text: &str) -> Record {
        let mut record = Record::default();
        for (digest, name) in text.lines().filter_map(|line| line.split_once("  ")) {
            let is_digest = digest.len() == DIGITS && digest.bytes().all(|b| b.is_ascii_hexdigit());
            if is_digest && is_file_name(name) {
                let digests = record.0.entry(name.to_owned()).or_default();
                digests.push(digest.to_ascii_lowercase());
            }
        }
        record
    }

    pub(super) fn has(&self, name: &str, digest: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|digests| digests.iter().any(|known| known == digest))
    }

    /// Replaces what is recorded for a name.
    pub(super) fn set(&mut self, name: &str, digests: Vec<Digest>) {
        self.0.insert(name.to_owned(), digests);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, digests) in &self.0 {
            for digest in digests {
                writeln!(f, "{digest}  {name}")?;
            }
        }
        Ok(())
    }
}

/// True for a name that stays inside of its folder.
pub(super) fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_that_of_sha256sum() {
        let (old, new) = ("a".repeat(64), "b".repeat(64));
        let mut record = Record::default();
        record.set("flannel", vec![old.clone(), new.clone()]);
        record.set("bridge", vec![new.clone()]);
        let text = record.to_string();
        assert_eq!(
            text,
            format!("{new}  bridge\n{old}  flannel\n{new}  flannel\n")
        );
        assert_eq!(Record::parse(&text), record);
        assert!(record.has("flannel", &old) && record.has("flannel", &new));
        assert!(!record.has("bridge", &old) && !record.has("dhcp", &new));
    }

    #[test]
    fn only_names_inside_of_the_folder_count() {
        let digest = "c".repeat(64);
        for name in ["../x", "/etc/passwd", "..", ".", "", "a/b"] {
            assert_eq!(
                Record::parse(&format!("{digest}  {name}\n")),
                Record::default()
            );
        }
        assert_eq!(Record::parse("abc  flannel\n"), Record::default());
        assert!(Record::parse(&format!("garbage\n{digest}  x")).has("x", &digest));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-f0-9]{0,70} {0,3}\\PC{0,20}\n?\\PC*") {
            let record = Record::parse(&text);
            prop_assert_eq!(Record::parse(&record.to_string()), record);
        }
    }
}
