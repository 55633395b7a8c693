//! The plugin's configuration, and which of several sources wins: CNI_ARGS over the plain keys, runtimeConfig over those,
//! args.cni over all.
use crate::sysctls::Sysctls;
use cni_conf::Error;
use linux_net::{
    Mac,
    link::{Change, Link},
};
use plugin::{Call, state::StateFolder};

const DATA_DIR: &str = "/run/cni/tuning";

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Keys {
    #[serde(rename = "dataDir")]
    data_dir: String,
    sysctl: Sysctls,
    mac: String,
    promisc: bool,
    mtu: i64,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<i64>,
    allmulti: Option<bool>,
    #[serde(rename = "runtimeConfig")]
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

/// What the plugin is to do.
#[derive(Debug)]
pub(crate) struct Conf {
    pub(crate) state: StateFolder,
    pub(crate) sysctls: Sysctls,
    pub(crate) link: Settings,
}

/// Settings of the interface; None leaves one alone.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// as text, since the result and CHECK show it as it was asked for
    pub(crate) mac: Option<String>,
    pub(crate) promisc: bool,
    pub(crate) mtu: Option<i64>,
    pub(crate) tx_queue_len: Option<i64>,
    pub(crate) allmulti: Option<bool>,
}

impl Conf {
    pub(crate) fn read(call: &Call) -> Result<Conf, Error> {
        let keys: Keys = call.conf().map_err(as_internal)?;
        let from_args = match call.args(&["MAC"])?.as_mut_slice() {
            [mac] => mac.take(),
            _ => None,
        };
        Ok(keys.merged(from_args.unwrap_or_default()))
    }
}

/// Where backups are. DEL and GC need nothing else, so nothing else can make them fail.
pub(crate) fn state_folder(call: &Call) -> Result<StateFolder, Error> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct DataDir {
        #[serde(rename = "dataDir")]
        data_dir: String,
    }
    let DataDir { data_dir } = call.conf().map_err(as_internal)?;
    Ok(or_default(data_dir))
}

fn or_default(data_dir: String) -> StateFolder {
    StateFolder::new(match data_dir.is_empty() {
        true => DATA_DIR.to_owned(),
        false => data_dir,
    })
}

/// upstream's message has no code of its own
fn as_internal(error: Error) -> Error {
    Error::internal(error.msg)
}

impl Keys {
    fn merged(mut self, mac_of_env: String) -> Conf {
        let args = self.args.cni;
        self.sysctl.extend(args.sysctl);
        let mac = args.mac.unwrap_or_else(|| {
            let by_rank = [self.runtime_config.mac, mac_of_env, self.mac];
            by_rank
                .into_iter()
                .find(|mac| !mac.is_empty())
                .unwrap_or_default()
        });
        let mtu = args.mtu.unwrap_or(self.mtu);
        Conf {
            state: or_default(self.data_dir),
            sysctls: self.sysctl,
            link: Settings {
                mac: (!mac.is_empty()).then_some(mac),
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

    /// As a request's content.
    pub(crate) fn change(&self) -> Result<Change, Error> {
        let mac = self.mac.as_deref().map(parse_mac).transpose()?;
        Ok(Change {
            mac,
            promisc: self.promisc.then_some(true),
            mtu: self.mtu.map(|mtu| number("mtu", mtu)).transpose()?,
            txqlen: self
                .tx_queue_len
                .map(|len| number("txQLen", len))
                .transpose()?,
            allmulti: self.allmulti,
            ..Change::default()
        })
    }

    /// Each setting against the link as it is.
    pub(crate) fn compare(&self, link: &Link) -> Result<(), Error> {
        let name = &link.name;
        let differs =
            |what: &str, wanted: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
                Err(Error::internal(format!(
                    "Error: Tuning {what} is {wanted}, current value is {found}"
                )))
            };
        if let Some(text) = &self.mac
            && link.mac != Some(parse_mac(text)?)
        {
            let found = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
            return differs(&format!("configured Ethernet of {name}"), text, &found);
        }
        if self.promisc && !link.promisc {
            return differs(&format!("link {name} configured promisc"), &true, &0);
        }
        if let Some(mtu) = self.mtu
            && mtu != i64::from(link.mtu)
        {
            return differs(&format!("configured MTU of {name}"), &mtu, &link.mtu);
        }
        if let Some(allmulti) = self.allmulti
            && allmulti != link.allmulti
        {
            let what = format!("configured all-multicast mode of {name}");
            return differs(&what, &allmulti, &link.allmulti);
        }
        if let Some(len) = self.tx_queue_len
            && len != i64::from(link.txqlen)
        {
            let what = format!("configured Transmit Queue Length of {name}");
            return differs(&what, &len, &link.txqlen);
        }
        Ok(())
    }
}

pub(crate) fn parse_mac(text: &str) -> Result<Mac, Error> {
    text.parse()
        .map_err(|error| Error::internal(format!("invalid args {text} for MAC addr: {error}")))
}

fn number(key: &str, value: i64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::internal(format!("invalid {key} {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    fn merged(json: &str, mac_of_env: &str) -> Conf {
        let keys: Keys = json::from_slice(json.as_bytes()).unwrap();
        keys.merged(mac_of_env.into())
    }

    #[test]
    fn precedence() {
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
    fn nothing_is_asked_for() {
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
    fn what_the_kernel_cannot_take() {
        for (json, msg) in [
            (
                r#"{"mac":"x"}"#,
                "invalid args x for MAC addr: address x: invalid MAC address",
            ),
            (r#"{"mtu":-1}"#, "invalid mtu -1"),
            (r#"{"txQLen":4294967296}"#, "invalid txQLen 4294967296"),
        ] {
            assert_eq!(merged(json, "").link.change().unwrap_err().msg, msg);
        }
    }
}
