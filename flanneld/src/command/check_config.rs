//! `flanneld check-config FILE`: what flanneld would make of a network configuration.

use crate::{
    backend, cli,
    daemon::{ConfigError, read_config},
    model::network_config::NetworkConfig,
};
use std::{path::Path, process::ExitCode};

/// Prints what the file means; fails if flanneld would refuse it.
pub(crate) fn run(file: &Path) -> ExitCode {
    match describe(file) {
        Ok((text, unknown)) => {
            for key in unknown {
                eprintln!(
                    "warning: {}: {key} has no effect: no such key",
                    file.display()
                );
            }
            cli::print(&text)
        }
        Err(error) => cli::fail(error, false),
    }
}

/// The meaning, and the keys that have no effect.
fn describe(file: &Path) -> Result<(String, Vec<String>), ConfigError> {
    let config = read_config(file)?;
    let backend = backend::check(&config).map_err(|source| ConfigError::Backend {
        path: file.to_owned(),
        source,
    })?;
    let mut lines = vec![format!("{}: can be used", file.display())];
    lines.extend(networks(&config));
    lines.push(format!("Backend: {}\n", backend.text));
    Ok((
        lines.join("\n"),
        config.unknown_keys(backend::keys(&config)),
    ))
}

fn networks(config: &NetworkConfig) -> Vec<String> {
    let v4 = config.network.zip(config.subnet_min).zip(config.subnet_max);
    let v4 = v4.filter(|_| config.enable_ipv4);
    let v6 = config
        .ipv6_network
        .zip(config.ipv6_subnet_min)
        .zip(config.ipv6_subnet_max);
    let v6 = v6.filter(|_| config.enable_ipv6);
    let v4 = v4.map(|((network, min), max)| {
        let len = config.subnet_len;
        format!("Network: {network}, a /{len} for each node from {min} to {max}")
    });
    let v6 = v6.map(|((network, min), max)| {
        let len = config.ipv6_subnet_len;
        format!("IPv6Network: {network}, a /{len} for each node from {min} to {max}")
    });
    v4.into_iter().chain(v6).collect()
}
