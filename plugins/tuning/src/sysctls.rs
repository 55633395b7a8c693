//! The `sysctl` key: names below `net` with dots or slashes, in which `IFNAME` stands for the
//! interface.

use crate::error::Failure;
use linux_net::sysctl;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Names and values in the configuration's order. Repeated names stay in the list, so that
/// [`check`](Self::check) finds them.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Sysctls(Vec<(String, String)>);

impl Sysctls {
    /// `others` replace values of the same name.
    pub(crate) fn extend(&mut self, others: Sysctls) {
        for (name, value) in others.0 {
            match self.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => self.0.push((name, value)),
            }
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Each name must occur once and be below `net`.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for (index, name) in self.names().enumerate() {
            if self.names().take(index).any(|earlier| earlier == name) {
                return Err(Failure::DuplicateSysctl);
            }
            path(name, "IFNAME")?;
        }
        Ok(())
    }

    /// The files of all, below `/proc/sys`.
    pub(crate) fn paths(&self, ifname: &str) -> impl Iterator<Item = Result<String, Failure>> {
        self.names().map(move |name| path(name, ifname))
    }

    /// Sets all in the calling thread's namespace.
    pub(crate) fn write(&self, ifname: &str) -> Result<(), Failure> {
        for (name, value) in &self.0 {
            sysctl::set(&path(name, ifname)?, value)?;
        }
        Ok(())
    }

    /// Compares with the calling thread's namespace. Whitespace between the numbers of a value may
    /// differ.
    pub(crate) fn compare(&self, ifname: &str) -> Result<(), Failure> {
        for (name, wanted) in &self.0 {
            let path = path(name, ifname)?;
            let found = sysctl::get(&path)?;
            if !found.split_whitespace().eq(wanted.split_whitespace()) {
                return Err(Failure::Differs {
                    setting: format!("configured value of /proc/sys/{path}"),
                    wanted: wanted.clone(),
                    found,
                });
            }
        }
        Ok(())
    }
}

/// `net.ipv4.conf.IFNAME.arp_filter` -> `net/ipv4/conf/eth0/arp_filter`. The interface's name may
/// contain dots.
fn path(name: &str, ifname: &str) -> Result<String, Failure> {
    let slashed = name.replace('.', "/");
    let parts: Vec<_> = slashed.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["net", _, ..] => Ok(parts.join("/").replacen("IFNAME", ifname, 1)),
        _ => Err(Failure::SysctlName(slashed)),
    }
}

impl<'de> Deserialize<'de> for Sysctls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Sysctls;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sysctls, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Sysctls(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sysctls(json: &str) -> Sysctls {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_become_paths_below_net() {
        let path = |name: &str| path(name, "eth0.5");
        let key = "net/ipv4/conf/eth0.5/arp_filter".to_owned();
        assert_eq!(path("net.ipv4.conf.IFNAME.arp_filter").unwrap(), key);
        assert_eq!(path("net/ipv4/conf/IFNAME/arp_filter").unwrap(), key);
        for bad in [
            "kernel.domainname",
            "net",
            "",
            ".net",
            "netx.core",
            "IFNAME.net.core",
        ] {
            let error = path(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid net sysctl key: "), "{bad}");
        }
        // dots are separators, so no path leads out of net
        assert_eq!(path("net/../kernel/x").unwrap(), "net/kernel/x");
    }

    #[test]
    fn repeated_name_is_refused() {
        let twice =
            r#"{"net.core.somaxconn":"1","net.core.rmem_max":"2","net.core.somaxconn":"3"}"#;
        assert_eq!(
            sysctls(twice).check().unwrap_err().to_string(),
            "duplicated sysctl keys are not allowed"
        );
        assert!(sysctls(r#"{"net.core.somaxconn":"1"}"#).check().is_ok());
        assert!(serde_json::from_str::<Sysctls>(r#"{"net.core.somaxconn":1}"#).is_err());
    }

    #[test]
    fn extension_replaces_values_of_the_same_name() {
        let mut all = sysctls(r#"{"net.a.a":"1","net.b.b":"2"}"#);
        all.extend(sysctls(r#"{"net.b.b":"3","net.c.c":"4"}"#));
        assert_eq!(
            all,
            sysctls(r#"{"net.a.a":"1","net.b.b":"3","net.c.c":"4"}"#)
        );
    }

    proptest! {
        #[test]
        fn no_path_is_outside_of_net(name in "(net|kernel|\\.|/|a|IFNAME){0,8}", ifname in "[a-z.]{1,4}") {
            if let Ok(path) = path(&name, &ifname) {
                prop_assert!(path.starts_with("net/"), "{path}");
            }
        }
    }
}
