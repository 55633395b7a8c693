//! The plugin's configuration. Of several sources for one setting, `args.cni` has precedence over
//! `runtimeConfig`, then CNI_ARGS, then the plugin's own key.

use crate::{error::Failure, sysctls::Sysctls};
use linux_net::{
    Mac,
    link::{Change, Link},
};
use plugin::{Call, state::StateFolder};
use std::fmt::Display;

const DATA_DIR: &str = "/run/cni/tuning";

#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    data_dir: String,
    sysctl: Sysctls,
    mac: String,
    promisc: bool,
    mtu: i64,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<i64>,
    allmulti: Option<bool>,
    runtime_config: RuntimeConfig,
    args: Args,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct RuntimeConfig {
    mac: String,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct CniArgs {
    sysctl: Sysctls,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<i64>,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<i64>,
    allmulti: Option<bool>,
}

#[derive(Debug)]
pub(crate) struct Conf {
    pub(crate) state: StateFolder,
    pub(crate) sysctls: Sysctls,
    pub(crate) link: Settings,
}

/// Settings of the interface; None (and false) leave a setting as it is.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// text, because the result and CHECK's error repeat the configured form
    pub(crate) mac: Option<String>,
    pub(crate) promisc: bool,
    pub(crate) mtu: Option<i64>,
    pub(crate) tx_queue_len: Option<i64>,
    pub(crate) allmulti: Option<bool>,
}

impl Conf {
    pub(crate) fn read(call: &Call) -> Result<Conf, Failure> {
        let keys: Keys = call.decode()?;
        let from_args = call.args(&["MAC"])?.into_iter().next().flatten();
        Ok(keys.merge(from_args.unwrap_or_default()))
    }
}

/// The folder of the backups. DEL and GC read no other key, so that no other key can make them
/// fail.
pub(crate) fn state_folder(call: &Call) -> Result<StateFolder, Failure> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Keys {
        data_dir: String,
    }
    let keys: Keys = call.decode()?;
    Ok(folder(keys.data_dir))
}

fn folder(data_dir: String) -> StateFolder {
    StateFolder::new(match data_dir.is_empty() {
        true => DATA_DIR.to_owned(),
        false => data_dir,
    })
}

impl Keys {
    fn merge(mut self, mac_of_args: String) -> Conf {
        let args = self.args.cni;
        self.sysctl.extend(args.sysctl);
        let mac = match args.mac {
            Some(mac) => Some(mac),
            None => [self.runtime_config.mac, mac_of_args, self.mac]
                .into_iter()
                .find(|mac| !mac.is_empty()),
        };
        let mtu = args.mtu.unwrap_or(self.mtu);
        Conf {
            state: folder(self.data_dir),
            sysctls: self.sysctl,
            link: Settings {
                mac: mac.filter(|mac| !mac.is_empty()),
                promisc: args.promisc.unwrap_or(self.promisc),
                mtu: (mtu != 0).then_some(mtu),
                tx_queue_len: args.tx_queue_len.or(self.tx_queue_len),
                allmulti: args.allmulti.or(self.allmulti),
            },
        }
    }
}

impl Settings {
    pub(crate) fn is_set(&self) -> bool {
        *self != Settings::default()
    }

    pub(crate) fn change(&self) -> Result<Change, Failure> {
        let number = |key: &'static str, value: Option<i64>| {
            let number =
                value.map(|value| u32::try_from(value).map_err(|_| Failure::Number { key, value }));
            number.transpose()
        };
        Ok(Change {
            mac: self.mac.as_deref().map(parse_mac).transpose()?,
            promisc: self.promisc.then_some(true),
            mtu: number("mtu", self.mtu)?,
            txqlen: number("txQLen", self.tx_queue_len)?,
            allmulti: self.allmulti,
            ..Change::default()
        })
    }

    /// Compares each setting with the link. Err: the first that differs, with upstream's text.
    pub(crate) fn compare(&self, link: &Link) -> Result<(), Failure> {
        let name = &link.name;
        if let Some(wanted) = &self.mac {
            let same = link.mac == Some(parse_mac(wanted)?);
            let found = match link.mac {
                Some(_) if same => wanted.clone(),
                Some(mac) => mac.to_string(),
                None => String::new(),
            };
            expect(
                format!("configured Ethernet of {name}"),
                Some(wanted),
                &found,
            )?;
        }
        expect(
            format!("link {name} configured promisc"),
            self.promisc.then_some("true"),
            if link.promisc { "true" } else { "0" },
        )?;
        expect(
            format!("configured MTU of {name}"),
            self.mtu,
            link.mtu.into(),
        )?;
        expect(
            format!("configured all-multicast mode of {name}"),
            self.allmulti,
            link.allmulti,
        )?;
        expect(
            format!("configured Transmit Queue Length of {name}"),
            self.tx_queue_len,
            link.txqlen.into(),
        )
    }
}

fn expect<T: PartialEq + Display>(
    setting: String,
    wanted: Option<T>,
    found: T,
) -> Result<(), Failure> {
    match wanted {
        Some(wanted) if wanted != found => Err(Failure::Differs {
            setting,
            wanted: wanted.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

pub(crate) fn parse_mac(text: &str) -> Result<Mac, Failure> {
    text.parse()
        .map_err(|error: <Mac as std::str::FromStr>::Err| Failure::Mac {
            text: text.to_owned(),
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    fn merged(json: &str, mac_of_env: &str) -> Conf {
        let keys: Keys = json::from_slice(json.as_bytes()).unwrap();
        keys.merge(mac_of_env.into())
    }

    #[test]
    fn args_cni_precede_runtime_config_then_cni_args_then_own_keys() {
        let mac = |json: &str, env: &str| merged(json, env).link.mac;
        let all = r#"{"mac":"a","runtimeConfig":{"mac":"r"},"args":{"cni":{"mac":"c"}}}"#;
        assert_eq!(mac(all, "e").unwrap(), "c");
        assert_eq!(
            mac(r#"{"mac":"a","runtimeConfig":{"mac":"r"}}"#, "e").unwrap(),
            "r"
        );
        assert_eq!(mac(r#"{"mac":"a"}"#, "e").unwrap(), "e");
        assert_eq!(mac(r#"{"mac":"a"}"#, "").unwrap(), "a");
        assert_eq!(mac("{}", ""), None);
        let link = merged(
            r#"{"mtu":1,"promisc":true,"txQLen":1,"allmulti":true,
                "args":{"cni":{"mtu":2,"promisc":false,"txQLen":0,"allmulti":false}}}"#,
            "",
        )
        .link;
        assert_eq!((link.mtu, link.promisc), (Some(2), false));
        assert_eq!((link.tx_queue_len, link.allmulti), (Some(0), Some(false)));
    }

    #[test]
    fn null_and_zero_leave_settings_and_folder_as_they_are() {
        let conf = merged(
            r#"{"args":null,"runtimeConfig":null,"sysctl":null,"mtu":0}"#,
            "",
        );
        assert!(!conf.link.is_set());
        assert_eq!(
            conf.state.file("c1", "eth0"),
            std::path::Path::new("/run/cni/tuning/c1_eth0.json")
        );
    }

    #[test]
    fn values_that_the_kernel_cannot_represent_are_refused() {
        for (json, msg) in [
            (
                r#"{"mac":"x"}"#,
                "invalid args x for MAC addr: address x: invalid MAC address",
            ),
            (r#"{"mtu":-1}"#, "invalid mtu -1"),
            (r#"{"txQLen":4294967296}"#, "invalid txQLen 4294967296"),
        ] {
            let failure = merged(json, "").link.change().unwrap_err();
            assert_eq!(failure.to_string(), msg);
        }
    }
}
