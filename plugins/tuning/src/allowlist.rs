//! /etc/cni/tuning/allowlist.conf: one regular expression a line. Pods may set the sysctls that a
//! line matches; without the file, all below `net`.

use crate::{error::Failure, sysctls::Sysctls};
use regex_lite::Regex;
use std::{
    io::{self, ErrorKind},
    path::Path,
};

const FILE: &str = "/etc/cni/tuning/allowlist.conf";
/// Longest file that is read, in bytes.
const MAX_LEN: u64 = 1 << 20;

pub(crate) fn check(sysctls: &Sysctls) -> Result<(), Failure> {
    if sysctls.names().next().is_none() {
        return Ok(());
    }
    let read = || {
        let bytes = atomic_file::read_whole(Path::new(FILE), MAX_LEN)?;
        String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    };
    match read() {
        Ok(text) => check_against(&text, sysctls),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Failure::ReadAllowlist { file: FILE, source }),
    }
}

fn check_against(text: &str, sysctls: &Sysctls) -> Result<(), Failure> {
    let lines = text.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let pattern = |line: &&str| {
        Regex::new(line).map_err(|source| Failure::AllowlistLine {
            file: FILE,
            line: (*line).to_owned(),
            source,
        })
    };
    let patterns: Vec<Regex> = lines.iter().map(pattern).collect::<Result<_, _>>()?;
    let is_refused = |name: &&str| !patterns.iter().any(|pattern| pattern.is_match(name));
    match sysctls.names().find(is_refused) {
        None => Ok(()),
        Some(name) => Err(Failure::NotAllowed {
            name: name.to_owned(),
            allowed: lines.into_iter().map(str::to_owned).collect(),
        }),
    }
}

/// The fuzz target of the file: whatever it says, names are judged.
pub(crate) fn fuzz(text: &str) {
    let names = r#"{"net.core.somaxconn":"1","net.ipv4.conf.IFNAME.arp_filter":"1"}"#;
    if let Ok(sysctls) = go_compat::json::from_slice(names.as_bytes()) {
        check_against(text, &sysctls).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sysctl_needs_a_matching_line() {
        let sysctls: Sysctls = serde_json::from_str(
            r#"{"net.core.somaxconn":"1","net.ipv4.conf.IFNAME.arp_filter":"1"}"#,
        )
        .unwrap();
        let check =
            |text: &str| check_against(text, &sysctls).map_err(|failure| failure.to_string());
        assert_eq!(
            check("^net\\.core\\.\n\n  ^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n"),
            Ok(())
        );
        // unanchored, as Go's MatchString
        assert_eq!(check("net"), Ok(()));
        assert_eq!(
            check("^net.core"),
            Err("Sysctl net.ipv4.conf.IFNAME.arp_filter is not allowed. Only the following sysctls are allowed: [^net.core]".into())
        );
        assert!(check("").is_err());
        assert!(
            check("(")
                .unwrap_err()
                .starts_with("/etc/cni/tuning/allowlist.conf: \"(\": ")
        );
    }
}
