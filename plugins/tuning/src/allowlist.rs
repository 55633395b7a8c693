//! The administrator's list of sysctls that configurations may set: a regular expression a line, in any order.

use std::{fs, io::ErrorKind, path::Path};

use cni_conf::Error;
use regex_lite::Regex;

/// Where it is. Without the file everything below `net.` is allowed.
pub const FILE: &str = "/etc/cni/tuning/allowlist.conf";

/// An error for the first sysctl that no line matches. Both spellings (`net.ipv4.x`, `net/ipv4/x`) are tried.
pub fn check(sysctls: &[(String, String)], file: &Path) -> Result<(), Error> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::internal(format!("{}: {error}", file.display()))),
    };
    let mut allowed = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let bad = |error| {
            Error::internal(format!(
                "{}: {line:?} is no regular expression: {error}",
                file.display()
            ))
        };
        allowed.push(Regex::new(line).map_err(bad)?);
    }
    for (key, _) in sysctls {
        let name = key.replace('/', ".");
        if !allowed
            .iter()
            .any(|regex| regex.is_match(&name) || regex.is_match(key))
        {
            let list: Vec<_> = allowed.iter().map(Regex::as_str).collect();
            return Err(Error::internal(format!(
                "Sysctl {name} is not allowed. Only the following sysctls are allowed: {list:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), "1".to_owned())]
    }

    #[test]
    fn only_what_a_line_matches() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            file.path(),
            "^net.ipv4.conf.[a-z0-9]+.arp_filter$\n\n^net.ipv6.*\n",
        )
        .unwrap();
        check(&one("net/ipv4/conf/eth0/arp_filter"), file.path()).unwrap();
        check(&one("net/ipv6/x"), file.path()).unwrap();
        let error = check(&one("net/ipv4/ip_forward"), file.path()).unwrap_err();
        assert!(
            error
                .msg
                .starts_with("Sysctl net.ipv4.ip_forward is not allowed"),
            "{error}"
        );
    }

    #[test]
    fn a_broken_line_is_named_and_no_file_allows_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "net.(\n").unwrap();
        assert!(
            check(&one("net/x"), file.path())
                .unwrap_err()
                .msg
                .contains("net.(")
        );
        check(&one("net/x"), Path::new("/nowhere/at/all")).unwrap();
    }
}
