//! The arguments of `cni-suite prune`.

use std::{ffi::OsString, path::PathBuf};

pub(super) const HELP: &str = "\
Usage: cni-suite prune [flags]

Removes what the plugins keep on this node of containers that no longer exist:
reserved addresses, state files, host ports, masquerade rules, and the index of
host-local where no address is reserved. It calls DEL of the plugins, as the
runtime should have done. A container exists as long as its network namespace
does. What may belong to a container that exists is left, with the reason. Run
it as root, on the node itself.

  -dry-run            only print what would be removed
  -data-dir FOLDER    the folder of the plugins' data (default /var/lib/cni)
  -uninstall          also remove what only these plugins read: the whole index
                      of host-local, and the second names of flannel's state
                      files. Pods that run keep what the Go plugins need";

/// What to prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) dry_run: bool,
    pub(super) data_dir: PathBuf,
    pub(super) uninstall: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    Options(Options),
    Help,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            dry_run: false,
            data_dir: PathBuf::from("/var/lib/cni"),
            uninstall: false,
        }
    }
}

impl Options {
    /// Flags have one dash or two.
    pub(super) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Parsed, String> {
        let mut options = Options::default();
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-'));
            let (name, value) = match flag.and_then(|flag| flag.split_once('=')) {
                Some((name, value)) => (Some(name), Some(OsString::from(value))),
                None => (flag, None),
            };
            match (name, value) {
                (Some("h" | "help"), None) => return Ok(Parsed::Help),
                (Some("dry-run"), None) => options.dry_run = true,
                (Some("uninstall"), None) => options.uninstall = true,
                (Some("data-dir"), value) => {
                    let value = value
                        .or_else(|| args.next())
                        .filter(|value| !value.is_empty());
                    options.data_dir = value.ok_or("-data-dir needs a folder")?.into();
                }
                _ => return Err(format!("{text} is no flag of it (cni-suite prune -help)")),
            }
        }
        Ok(Parsed::Options(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Parsed, String> {
        Options::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn flags_have_one_dash_or_two() {
        assert_eq!(parse(&[]), Ok(Parsed::Options(Options::default())));
        let expected = Options {
            dry_run: true,
            data_dir: "/d".into(),
            uninstall: true,
        };
        for args in [
            ["-dry-run", "-uninstall", "-data-dir=/d"].as_slice(),
            &["--data-dir", "/d", "--uninstall", "--dry-run"],
        ] {
            assert_eq!(
                parse(args),
                Ok(Parsed::Options(expected.clone())),
                "{args:?}"
            );
        }
        assert_eq!(parse(&["-h"]), Ok(Parsed::Help));
        for args in [
            ["-data-dir"].as_slice(),
            &["-data-dir="],
            &["-dry-run=maybe"],
            &["cbr0"],
            &["-all"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
