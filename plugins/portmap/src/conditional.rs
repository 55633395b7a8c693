//! Mappings with conditions (nftables). The conditions are in `nft`'s own language, so `nft` itself makes these rules: the
//! only case in which this back end starts a process.
use crate::{
    forward::Forward,
    layout::{CONDITIONAL, Layout, TABLE},
    owner::Owner,
};
use cni_conf::Error;
use std::{
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
};

/// A rule for each mapping, all or none.
pub(crate) fn add(owner: &Owner, conditions: &[String], forwards: &[Forward]) -> Result<(), Error> {
    let script = script(owner, conditions, forwards);
    run(&script).map_err(|why| {
        Error::internal(format!(
            "cannot map host ports with conditions {conditions:?}: {why}"
        ))
    })
}

fn script(owner: &Owner, conditions: &[String], forwards: &[Forward]) -> String {
    let mut script = String::new();
    for forward in forwards {
        let layout = Layout::new(forward.container.is_ipv6());
        let family = layout.family().as_str();
        let host = match forward.host_ip {
            Some(ip) => format!("{family} daddr {ip} "),
            None => String::new(),
        };
        script += &format!(
            "add rule {family} {TABLE} {CONDITIONAL} {} {host}{} dport {} dnat to {} comment \"{}\"\n",
            conditions.join(" "),
            forward.protocol.name(),
            forward.host_port,
            SocketAddr::new(forward.container, forward.container_port),
            owner.comment(),
        );
    }
    script
}

fn run(script: &str) -> Result<(), String> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("the program nft (Debian package nftables) cannot be started: {error}")
        })?;
    if let Some(mut stdin) = nft.stdin.take() {
        // if it ended early, its own words below say why
        stdin.write_all(script.as_bytes()).ok();
    }
    let output = nft
        .wait_with_output()
        .map_err(|error| format!("nft: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
