//! The keys and values of leases in etcd. Pure.
//!
//! `PREFIX/config` describes the network; `PREFIX/subnets/10.12.13.0-24` and
//! `PREFIX/subnets/10.12.13.0-24&fd00:12:13::-56` are leases, whose values are the attributes.

use crate::model::{InvalidSubnets, Subnets, lease::LeaseAttrs};

/// Longest value that can be a lease, bytes. A node's attributes have a few hundred.
pub(super) const VALUE_LIMIT: usize = 64 << 10;
/// Longest part of a key that a message shows, bytes.
const SHOWN: usize = 100;

/// The keys under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    config: String,
    subnets: String,
}

/// Why a key or a value is not a lease.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The key is not text.
    #[error("the key is not UTF-8")]
    KeyEncoding,
    /// The key does not name subnets.
    #[error(transparent)]
    Key(#[from] InvalidSubnets),
    /// The value is longer than any lease.
    #[error("the value is longer than {VALUE_LIMIT} bytes")]
    TooLong,
    /// The value is not text.
    #[error("the value is not UTF-8")]
    ValueEncoding,
    /// The value does not have the attributes of a lease.
    #[error("{0}")]
    Value(#[from] go_compat::json::Error),
}

impl Keys {
    /// The prefix is normalised as Go's path.Join does it: repeated slashes, `.` and `..` are
    /// resolved.
    pub(super) fn new(prefix: &str) -> Keys {
        let root = if prefix.starts_with('/') { "/" } else { "" };
        let mut parts = Vec::new();
        for part in prefix.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.last().is_some_and(|last| *last != "..") => {
                    parts.pop();
                }
                ".." if root.is_empty() => parts.push(part),
                ".." => {}
                part => parts.push(part),
            }
        }
        let joined = |last| format!("{root}{}", [&parts[..], &[last]].concat().join("/"));
        Keys {
            config: joined("config"),
            subnets: joined("subnets/"),
        }
    }

    /// The key of the network configuration.
    pub(super) fn config(&self) -> &str {
        &self.config
    }

    /// What the keys of all leases begin with.
    pub(super) fn subnets(&self) -> &str {
        &self.subnets
    }

    /// The key of a lease.
    pub(super) fn subnet(&self, subnets: &Subnets) -> String {
        format!("{}{subnets}", self.subnets)
    }

    /// The subnets that a key names.
    pub(super) fn parse(&self, key: &[u8]) -> Result<Subnets, Unreadable> {
        let key = str::from_utf8(key).map_err(|_| Unreadable::KeyEncoding)?;
        let name = key.strip_prefix(&self.subnets).unwrap_or(key);
        Ok(name.parse()?)
    }
}

/// The attributes in a value.
pub(super) fn parse_value(value: &[u8]) -> Result<LeaseAttrs, Unreadable> {
    if value.len() > VALUE_LIMIT {
        return Err(Unreadable::TooLong);
    }
    if str::from_utf8(value).is_err() {
        return Err(Unreadable::ValueEncoding);
    }
    Ok(go_compat::json::from_slice(value)?)
}

/// A key for messages: printable and not long.
pub(super) fn shown(key: &[u8]) -> String {
    let start = &key[..key.len().min(SHOWN)];
    let rest = if start.len() < key.len() { "..." } else { "" };
    format!("{}{rest}", start.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefix_is_joined_as_go_joins_it() {
        for (prefix, config) in [
            ("/coreos.com/network", "/coreos.com/network/config"),
            ("/coreos.com/network/", "/coreos.com/network/config"),
            ("//coreos.com//network/.", "/coreos.com/network/config"),
            ("/a/../b", "/b/config"),
            ("/../b", "/b/config"),
            ("a/../../b", "../b/config"),
            ("vxlan", "vxlan/config"),
            ("/", "/config"),
            ("", "config"),
        ] {
            let keys = Keys::new(prefix);
            assert_eq!(keys.config(), config, "{prefix}");
            let subnets = config.replace("config", "subnets/");
            assert_eq!(keys.subnets(), subnets, "{prefix}");
        }
    }

    #[test]
    fn lease_keys_are_upstreams() {
        let keys = Keys::new("/coreos.com/network");
        for name in [
            "10.12.13.0-24",
            "10.12.13.0-24&fd00:12:13::-56",
            "0.0.0.0-0&fd00:12:13::-56",
        ] {
            let key = format!("/coreos.com/network/subnets/{name}");
            let subnets = keys.parse(key.as_bytes()).unwrap();
            assert_eq!(keys.subnet(&subnets), key);
        }
        for bad in [
            "",
            "10",
            "10.12.13.0",
            "10.12.13-24",
            "10.12.13.300-24",
            "10.12.13.0-24hi",
            "&2001::-56",
            "10.12.13.0-24&:12:13:-56",
            "10.12.13.0-24&20011::-56",
            "10.12.13.0-24&2001-56",
            "10.12.13.0-24&2001::",
            "10.12.13.0-24&2001::-56hi",
            "x/10.12.13.0-24",
        ] {
            let key = format!("/coreos.com/network/subnets/{bad}");
            assert!(keys.parse(key.as_bytes()).is_err(), "{bad}");
        }
        let error = keys.parse(b"/coreos.com/network/subnets/\xff").unwrap_err();
        assert!(matches!(error, Unreadable::KeyEncoding));
    }

    #[test]
    fn value_that_is_no_lease_is_refused_with_the_reason() {
        let long = [b"[".repeat(VALUE_LIMIT), b"]".to_vec()].concat();
        for (bad, reason) in [
            (b"[]".as_slice(), "array"),
            (b"\xff\xfe", "not UTF-8"),
            (b"", "EOF"),
            (br#"{"PublicIP":"x"}"#, "PublicIP"),
            (&long, "longer than"),
        ] {
            let error = parse_value(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn messages_show_keys_escaped_and_cut() {
        assert_eq!(shown(b"/a\xff\n"), r"/a\xff\n");
        assert_eq!(shown(&[b'x'; 1000]).len(), SHOWN + 3);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(key: Vec<u8>, value: Vec<u8>) {
            let keys = Keys::new("/p");
            drop(keys.parse(&key));
            drop(keys.parse(&[b"/p/subnets/", &key[..]].concat()));
            drop(parse_value(&value));
            drop(shown(&key));
        }
    }
}
