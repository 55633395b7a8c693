//! The `sysctl` key: names with dots or slashes, `IFNAME` in them standing for the interface, all below `net`.
use cni_conf::Error;
use linux_net::sysctl;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Names and values in the configuration's order. A repeated name is kept, so that it can be refused.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Sysctls(Vec<(String, String)>);

impl Sysctls {
    /// Others win over those of the same name.
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

    /// Names must be told once, and be of the network's.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (index, name) in self.names().enumerate() {
            if self.names().take(index).any(|earlier| earlier == name) {
                return Err(Error::internal("duplicated sysctl keys are not allowed"));
            }
            path(name, "IFNAME")?;
        }
        Ok(())
    }

    /// In the calling thread's namespace.
    pub(crate) fn write(&self, ifname: &str) -> Result<(), Error> {
        for (name, value) in &self.0 {
            sysctl::set(&path(name, ifname)?, value).map_err(Error::internal)?;
        }
        Ok(())
    }

    /// The calling thread's namespace against the configuration. Values of several numbers may be set apart by any whitespace.
    pub(crate) fn compare(&self, ifname: &str) -> Result<(), Error> {
        for (name, value) in &self.0 {
            let path = path(name, ifname)?;
            let found = sysctl::get(&path).map_err(Error::internal)?;
            if !found.split_whitespace().eq(value.split_whitespace()) {
                return Err(Error::internal(format!(
                    "Error: Tuning configured value of /proc/sys/{path} is {value}, current value is {found}"
                )));
            }
        }
        Ok(())
    }
}

/// `net.ipv4.conf.IFNAME.arp_filter` -> `net/ipv4/conf/eth0/arp_filter`. The name is put in last: it may have dots.
fn path(name: &str, ifname: &str) -> Result<String, Error> {
    let slashed = name.replace('.', "/");
    let parts: Vec<_> = slashed.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["net", _, ..] => Ok(parts.join("/").replacen("IFNAME", ifname, 1)),
        _ => Err(Error::internal(format!(
            "invalid net sysctl key: {slashed:?}"
        ))),
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
    fn names() {
        let path = |name: &str| path(name, "eth0.5");
        let key = "net/ipv4/conf/eth0.5/arp_filter".to_owned();
        assert_eq!(path("net.ipv4.conf.IFNAME.arp_filter"), Ok(key.clone()));
        assert_eq!(path("net/ipv4/conf/IFNAME/arp_filter"), Ok(key));
        for bad in [
            "kernel.domainname",
            "net",
            "",
            ".net",
            "netx.core",
            "IFNAME.net.core",
        ] {
            let error = path(bad).unwrap_err();
            assert!(error.msg.starts_with("invalid net sysctl key: "), "{bad}");
        }
        // dots are separators, so nothing leads upwards
        assert_eq!(path("net/../kernel/x").unwrap(), "net/kernel/x");
    }

    #[test]
    fn a_name_is_told_once() {
        let twice =
            r#"{"net.core.somaxconn":"1","net.core.rmem_max":"2","net.core.somaxconn":"3"}"#;
        assert_eq!(
            sysctls(twice).check().unwrap_err().msg,
            "duplicated sysctl keys are not allowed"
        );
        assert!(sysctls(r#"{"net.core.somaxconn":"1"}"#).check().is_ok());
        assert!(serde_json::from_str::<Sysctls>(r#"{"net.core.somaxconn":1}"#).is_err());
    }

    #[test]
    fn later_ones_win() {
        let mut all = sysctls(r#"{"net.a.a":"1","net.b.b":"2"}"#);
        all.extend(sysctls(r#"{"net.b.b":"3","net.c.c":"4"}"#));
        assert_eq!(
            all,
            sysctls(r#"{"net.a.a":"1","net.b.b":"3","net.c.c":"4"}"#)
        );
    }

    proptest! {
        #[test]
        fn never_outside_of_net(name in "(net|kernel|\\.|/|a|IFNAME){0,8}", ifname in "[a-z.]{1,4}") {
            if let Ok(path) = path(&name, &ifname) {
                prop_assert!(path.starts_with("net/"), "{path}");
            }
        }
    }
}
