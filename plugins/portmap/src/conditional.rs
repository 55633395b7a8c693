//! Mappings with conditions (nftables). Conditions are text in the language of the program `nft`,
//! so `nft` adds these rules. It is the only process that this back end starts.

use crate::{
    comment::comment,
    forward::Forward,
    layout::{CONDITIONAL, Layout, TABLE},
    mappings::Mappings,
};
use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

/// Why `nft` did not add the rules.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NftFailure {
    /// The program is missing or cannot be executed.
    #[error("the program nft (Debian package nftables) cannot be started: {0}")]
    Start(#[source] io::Error),
    /// Its output cannot be read.
    #[error("nft: {0}")]
    Wait(#[source] io::Error),
    /// Its error messages.
    #[error("{0}")]
    Refused(String),
}

/// Adds a rule for each mapping, all or none.
pub(crate) fn add(mappings: &Mappings<'_>) -> Result<(), NftFailure> {
    run(&script(mappings))
}

pub(crate) fn script(mappings: &Mappings<'_>) -> String {
    let family = Layout::new(mappings.ipv6()).family().as_str();
    let conditions = mappings.conditions().join(" ");
    let comment = comment(mappings.owner);
    let line = |forward: &Forward| {
        let host = match forward.host_ip {
            Some(ip) => format!("{family} daddr {ip} "),
            None => String::new(),
        };
        let (protocol, port) = (forward.protocol.name(), forward.host_port);
        format!(
            "add rule {family} {TABLE} {CONDITIONAL} {conditions} {host}{protocol} dport {port} \
             dnat to {} comment \"{comment}\"\n",
            forward.target()
        )
    };
    mappings.forwards.iter().map(line).collect()
}

fn run(script: &str) -> Result<(), NftFailure> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NftFailure::Start)?;
    if let Some(mut stdin) = nft.stdin.take() {
        // fails if nft ended before it read everything; its stderr says why
        stdin.write_all(script.as_bytes()).ok();
    }
    let output = nft.wait_with_output().map_err(NftFailure::Wait)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(NftFailure::Refused(message.trim().to_owned()))
}
