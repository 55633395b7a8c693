//! The plugin's keys and where a value may come from: `args.cni` beats `runtimeConfig` beats `CNI_ARGS` beats the key itself.

use std::collections::BTreeMap;

use cni_conf::Error;
use plugin::Call;
use serde::Deserialize;

use crate::settings::Settings;

/// Where the settings before ADD are kept.
pub const DEFAULT_DATA_DIR: &str = "/run/cni/tuning";

/// The configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Conf {
    /// name of the network
    pub name: String,
    data_dir: String,
    sysctl: Sysctls,
    mac: String,
    promisc: bool,
    mtu: u32,
    allmulti: Option<bool>,
    tx_q_len: Option<u32>,
    runtime_config: RuntimeConfig,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    mac: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CniArgs {
    sysctl: Sysctls,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    tx_q_len: Option<u32>,
}

/// Names and values; a name that stands there twice is an error, since one of the two would be lost.
#[derive(Debug, Default)]
struct Sysctls(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Sysctls {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SysctlVisitor)
    }
}

struct SysctlVisitor;

impl<'de> serde::de::Visitor<'de> for SysctlVisitor {
    type Value = Sysctls;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object of sysctl names and their values as text")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Sysctls, A::Error> {
        let mut sysctls = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            if let Some(first) = sysctls.insert(name.clone(), value) {
                return Err(serde::de::Error::custom(format!(
                    "sysctl {name:?} is given twice, first as {first:?}"
                )));
            }
        }
        Ok(Sysctls(sysctls))
    }
}

impl Conf {
    /// From stdin and the environment of a call.
    pub fn of(call: &Call) -> Result<Conf, Error> {
        let mut conf: Conf = call.conf()?;
        if let Some(mac) = call.args(&["MAC"])?.into_iter().flatten().next() {
            conf.mac = mac;
        }
        if !conf.runtime_config.mac.is_empty() {
            conf.mac = std::mem::take(&mut conf.runtime_config.mac);
        }
        let args = std::mem::take(&mut conf.args.cni);
        conf.sysctl.0.extend(args.sysctl.0);
        conf.mac = args.mac.unwrap_or(conf.mac);
        conf.promisc = args.promisc.unwrap_or(conf.promisc);
        conf.mtu = args.mtu.unwrap_or(conf.mtu);
        conf.allmulti = args.allmulti.or(conf.allmulti);
        conf.tx_q_len = args.tx_q_len.or(conf.tx_q_len);
        Ok(conf)
    }

    /// The folder of backups.
    pub fn data_dir(&self) -> &str {
        if self.data_dir.is_empty() {
            DEFAULT_DATA_DIR
        } else {
            &self.data_dir
        }
    }

    /// Paths below /proc/sys and values. `IFNAME` in a name stands for the interface. An interface's own name may hold
    /// dots, which stay dots.
    pub fn sysctls(&self, ifname: &str) -> Result<Vec<(String, String)>, Error> {
        let path = |name: &str| name.replace('.', "/").replacen("IFNAME", ifname, 1);
        let mut sysctls = Vec::new();
        for (name, value) in &self.sysctl.0 {
            let path = path(name);
            let climbs = path.split('/').any(|part| part == ".." || part.is_empty());
            if !path.starts_with("net/") || climbs {
                return Err(Error::internal(format!("invalid net sysctl key: {name:?}")));
            }
            sysctls.push((path, value.clone()));
        }
        Ok(sysctls)
    }

    /// What is to be set on the link.
    pub fn settings(&self) -> Result<Settings, Error> {
        if !self.mac.is_empty() {
            let parsed = self.mac.parse::<linux_net::Mac>();
            parsed.map_err(|error| {
                Error::internal(format!("invalid args {:?} for MAC addr: {error}", self.mac))
            })?;
        }
        Ok(Settings {
            mac: (!self.mac.is_empty()).then(|| self.mac.clone()),
            promisc: self.promisc.then_some(true),
            mtu: (self.mtu != 0).then_some(self.mtu),
            allmulti: self.allmulti,
            tx_q_len: self.tx_q_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Result<Conf, serde_json::Error> {
        cni_conf::go_json::from_slice(text.as_bytes())
    }

    #[test]
    fn sysctls_stay_below_net() {
        let sysctls = |name: &str| {
            conf(&format!(r#"{{"sysctl":{{"{name}":"1"}}}}"#))
                .unwrap()
                .sysctls("eth0.5")
        };
        assert_eq!(
            sysctls("net.ipv4.conf.IFNAME.arp_filter").unwrap()[0].0,
            "net/ipv4/conf/eth0.5/arp_filter"
        );
        for bad in [
            "kernel.hostname",
            "net",
            "net/../kernel/hostname",
            "net..x",
            "/net.x",
        ] {
            assert!(
                sysctls(bad)
                    .unwrap_err()
                    .msg
                    .starts_with("invalid net sysctl key"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_sysctl_given_twice_is_refused() {
        let error = conf(r#"{"sysctl":{"net.a":"1","net.a":"2"}}"#).unwrap_err();
        assert!(error.to_string().contains("given twice"), "{error}");
    }

    #[test]
    fn keys_match_as_go_matches_them() {
        let settings = conf(r#"{"TXQLEN":7,"allMulti":false,"MTU":1400}"#)
            .unwrap()
            .settings()
            .unwrap();
        assert_eq!(
            (settings.tx_q_len, settings.allmulti, settings.mtu),
            (Some(7), Some(false), Some(1400))
        );
    }

    #[test]
    fn a_bad_mac_is_named() {
        let error = conf(r#"{"mac":"nonsense"}"#)
            .unwrap()
            .settings()
            .unwrap_err();
        assert!(error.msg.contains("nonsense"), "{error}");
    }
}
