//! /etc/cni/tuning/allowlist.conf: regular expressions, one a line, that name the sysctls which pods may have. Without the file
//! all of them may be set.
use crate::sysctls::Sysctls;
use cni_conf::{Code, Error};
use regex_lite::Regex;
use std::{fs, io};

const FILE: &str = "/etc/cni/tuning/allowlist.conf";

pub(crate) fn check(sysctls: &Sysctls) -> Result<(), Error> {
    if sysctls.names().next().is_none() {
        return Ok(());
    }
    match fs::read_to_string(FILE) {
        Ok(text) => check_against(&text, sysctls),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::new(Code::Io, format!("read {FILE}: {error}"))),
    }
}

fn check_against(text: &str, sysctls: &Sysctls) -> Result<(), Error> {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let allowed: Vec<Regex> = lines
        .iter()
        .map(|line| {
            Regex::new(line).map_err(|error| Error::internal(format!("{FILE}: {line:?}: {error}")))
        })
        .collect::<Result<_, _>>()?;
    match sysctls
        .names()
        .find(|name| !allowed.iter().any(|pattern| pattern.is_match(name)))
    {
        None => Ok(()),
        Some(name) => Err(Error::internal(format!(
            "Sysctl {name} is not allowed. Only the following sysctls are allowed: [{}]",
            lines.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_line_matches() {
        let sysctls: Sysctls = serde_json::from_str(
            r#"{"net.core.somaxconn":"1","net.ipv4.conf.IFNAME.arp_filter":"1"}"#,
        )
        .unwrap();
        let check = |text: &str| check_against(text, &sysctls).map_err(|error| error.msg);
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
