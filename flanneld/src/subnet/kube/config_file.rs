//! The network configuration: a file, a ConfigMap's in a pod. It is used as it was at the start; a
//! change is noticed and reported.

use crate::{
    model::network_config::{self, NetworkConfig},
    subnet::Waiting,
};
use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::sleep;

/// How often the file is compared.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The longest file that is read, in bytes: a ConfigMap's limit.
const LONGEST_FILE: u64 = 1 << 20;

/// Why there is no network configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Upstream's words first.
    #[error(
        "failed to read net conf: {}: {source}; name another file with -net-config-path",
        path.display()
    )]
    Read { path: PathBuf, source: io::Error },
    /// Upstream's words first.
    #[error("error parsing subnet config: {}: {source}", path.display())]
    Parse {
        path: PathBuf,
        source: network_config::Error,
    },
}

/// The file with its content at the start.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    pub(super) config: NetworkConfig,
}

impl ConfigFile {
    /// Reads the file. Keys that only other managers use are not checked.
    pub(super) fn read(path: &Path) -> Result<ConfigFile, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let config = NetworkConfig::parse(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })?;
        Ok(ConfigFile {
            path: path.to_owned(),
            config,
        })
    }

    /// Reports a change of the file until it is taken back.
    pub(super) async fn report_changes(&self, waiting: &Waiting) -> Infallible {
        loop {
            sleep(CHECK_INTERVAL).await;
            match self.change() {
                Some(change) => waiting.report(change),
                None => waiting.clear(),
            }
        }
    }

    /// None if the file means what it meant at the start.
    fn change(&self) -> Option<String> {
        let path = self.path.display();
        let unusable = |error: &dyn std::fmt::Display| {
            Some(format!(
                "for a network configuration that can be used: {path} changed and is broken: {error}; flanneld goes \
                 on with the one it started with, and cannot start again with this one"
            ))
        };
        let text = match read(&self.path) {
            Ok(text) if text == self.config.raw => return None,
            Ok(text) => text,
            Err(error) => return unusable(&error),
        };
        match NetworkConfig::parse(&text).map(|config| self.with_same_text(config)) {
            Err(error) => unusable(&error),
            Ok(config) if config == self.config => None,
            Ok(_) => Some(format!(
                "for a restart of flanneld: {path} changed, and the change applies then; until then nothing changes"
            )),
        }
    }

    fn with_same_text(&self, config: NetworkConfig) -> NetworkConfig {
        NetworkConfig {
            raw: self.config.raw.clone(),
            ..config
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > LONGEST_FILE {
        let reason = format!("it is larger than {LONGEST_FILE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;

    #[test]
    fn change_is_reported_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net-conf.json");
        fs::write(&path, CONFIG).unwrap();
        let file = ConfigFile::read(&path).unwrap();
        assert_eq!(file.change(), None);
        fs::write(&path, CONFIG.replace(',', " ,\n")).unwrap();
        assert_eq!(file.change(), None, "only white space changed");
        fs::write(&path, CONFIG.replace("vxlan", "host-gw")).unwrap();
        let text = file.change().unwrap();
        assert!(
            text.contains("restart") && text.contains("net-conf.json"),
            "{text}"
        );
        for broken in ["", "{", r#"{"Network":"x"}"#, "[]"] {
            fs::write(&path, broken).unwrap();
            let text = file.change().unwrap();
            assert!(
                text.contains("broken") && text.contains("net-conf.json"),
                "{text}"
            );
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(file.change().unwrap().contains("broken"));
        fs::remove_file(&path).unwrap();
        assert!(file.change().unwrap().contains("broken"));
        fs::write(&path, CONFIG).unwrap();
        assert_eq!(file.change(), None);
    }

    #[test]
    fn errors_have_upstreams_words_and_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net-conf.json");
        let error = || ConfigFile::read(&path).unwrap_err().to_string();
        assert!(error().contains("failed to read net conf") && error().contains("net-conf.json"));
        fs::write(&path, "{").unwrap();
        assert!(
            error().contains("error parsing subnet config") && error().contains("net-conf.json")
        );
        fs::write(&path, r#"{"Network":"10.244.0.0/16","SubnetLen":99}"#).unwrap();
        assert!(
            ConfigFile::read(&path).is_ok(),
            "upstream does not check it"
        );
    }
}
