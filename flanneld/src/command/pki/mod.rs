//! `flanneld pki`: an authority in a folder, and the certificates of nodes and operators.

mod error;
mod folder;

use crate::{
    cli::{
        self,
        commands::{Pki, PkiAction},
    },
    pki::{Authority, Certificate, Holder, Identity},
};
use error::Error;
use folder::Folder;
use jiff::Timestamp;
use std::{net::IpAddr, process::ExitCode};

const DAY: i64 = 24 * 60 * 60;

/// Runs a command and prints what it made.
pub(super) fn run(options: &Pki) -> ExitCode {
    match execute(options, Timestamp::now().as_second()) {
        Ok(made) => cli::print(&format!("{made}\n")),
        Err(error) => cli::fail(&error, error.is_usage()),
    }
}

fn execute(options: &Pki, now: i64) -> Result<String, Error> {
    let folder = Folder(&options.dir);
    let words: Vec<&str> = options.arguments.iter().map(String::as_str).collect();
    let plain = !options.operator && !options.finish;
    match (options.action, words.as_slice()) {
        (PkiAction::Init, []) if plain => init(&folder, now),
        (PkiAction::Issue, words) if !options.finish => issue(&folder, options, words, now),
        (PkiAction::Rotate, []) if options.finish && !options.operator => finish(&folder),
        (PkiAction::Rotate, []) if plain => rotate(&folder, now),
        _ => Err(Error::Usage),
    }
}

fn init(folder: &Folder<'_>, now: i64) -> Result<String, Error> {
    if folder.has_authority() {
        return Err(Error::Exists(folder.0.to_owned()));
    }
    folder.write_authority(&Authority::create(now)?, "")?;
    Ok(format!(
        "made the authority {}; its key ca.key stays on this machine",
        folder.ca_certificate().display()
    ))
}

fn issue(folder: &Folder<'_>, options: &Pki, words: &[&str], now: i64) -> Result<String, Error> {
    let (name, hosts) = match (words.split_first(), options.operator) {
        (Some((name, [])), true) => (*name, &[][..]),
        (None, true) => ("operator", &[][..]),
        (Some((name, hosts)), false) => (*name, hosts),
        _ => return Err(Error::Usage),
    };
    if !is_name(name) {
        return Err(Error::Name(name.to_owned()));
    }
    if let Some(bad) = hosts.iter().find(|host| !is_host(host)) {
        return Err(Error::Host((*bad).to_owned()));
    }
    if !(1..=3650).contains(&options.days) {
        return Err(Error::Days(options.days));
    }
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let holder = match options.operator {
        true => Holder::Operator { name },
        false => Holder::Node {
            name,
            hosts: &hosts,
        },
    };
    let earlier = folder.issued(name).ok();
    let earlier = earlier.and_then(|certificate| Certificate::parse(&certificate).ok());
    let is_operator = |earlier: Certificate| Identity::of(&earlier) == Identity::Operator;
    if earlier.is_some_and(|earlier| is_operator(earlier) != options.operator) {
        return Err(Error::OtherKind {
            name: name.to_owned(),
            folder: folder.0.join(name),
        });
    }
    let life = i64::from(options.days) * DAY;
    let issued = folder.authority()?.issue(holder, now, life)?;
    let made = folder.write_issued(name, &issued)?;
    let (days, made) = (options.days, made.display());
    Ok(match holder {
        Holder::Operator { .. } => format!(
            "made a certificate of operator {name} for {days} days, which may change every lease: \
             keep {made} off the nodes"
        ),
        Holder::Node { .. } => format!(
            "made a certificate of node {name} for {days} days: copy what is in {made} to \
             /etc/flannel/tls on its machine"
        ),
    })
}

/// The first step: a new authority signs, and both are trusted.
fn rotate(folder: &Folder<'_>, now: i64) -> Result<String, Error> {
    if folder.authorities()?.len() > 1 {
        return Err(Error::InProgress(folder.ca_certificate()));
    }
    let old = folder.certificates()?;
    folder.write_authority(&Authority::create(now)?, &old)?;
    Ok(format!(
        "{} has the new and the old authority: copy it to every node, then renew each certificate with `flanneld pki \
         issue`, copy them, and run `flanneld pki rotate -finish`",
        folder.ca_certificate().display()
    ))
}

/// The second step: only the new authority is trusted.
fn finish(folder: &Folder<'_>) -> Result<String, Error> {
    let authorities = folder.authorities()?;
    let [new, _, ..] = authorities.as_slice() else {
        return Err(Error::NotInProgress);
    };
    let unreadable = |_| Error::NoCertificate(folder.ca_certificate());
    let new = Certificate::parse(new).map_err(unreadable)?;
    let mut old = Vec::new();
    for name in folder.names()? {
        let unreadable = |_| Error::NoCertificate(folder.0.join(&name).join("tls.crt"));
        let certificate = Certificate::parse(&folder.issued(&name)?).map_err(unreadable)?;
        if !certificate.is_issued_by(&new) {
            old.push(name);
        }
    }
    if !old.is_empty() {
        return Err(Error::StillNeeded(old));
    }
    let pem = folder.certificates()?;
    const END: &str = "-----END CERTIFICATE-----";
    let first = pem.find(END).map_or(pem.len(), |start| start + END.len());
    folder.write_certificates(&format!("{}\n", &pem[..first]))?;
    Ok(format!(
        "{} has the new authority only: copy it to every node",
        folder.ca_certificate().display()
    ))
}

/// A name that is a folder's, too.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !["ca.crt", "ca.key"].contains(&name)
}

fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.*".contains(&byte);
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63;
    host.parse::<IpAddr>().is_ok()
        || (host.len() <= 253 && host.bytes().all(allowed) && host.split('.').all(is_label))
}

#[cfg(test)]
mod tests;
