//! Link settings: applied, checked, and read from a link before they are changed.

use cni_conf::Error;
use linux_net::{
    Mac, Netlink,
    link::{self, Change, Link},
};
use serde::{Deserialize, Serialize};

/// What to set; None leaves it. Its JSON is the backup file, in the keys of the Go plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// text form
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// promiscuous mode
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promisc: Option<bool>,
    /// bytes
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// all multicast packets are received
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// packets
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    pub tx_q_len: Option<u32>,
}

impl Settings {
    /// Nothing to set.
    pub fn is_empty(&self) -> bool {
        *self == Settings::default()
    }

    /// The link's own values of what `wanted` is going to change.
    pub fn of(link: &Link, wanted: &Settings) -> Result<Settings, Error> {
        Ok(Settings {
            mac: wanted.mac.as_ref().and(link.mac).map(|mac| mac.to_string()),
            promisc: wanted.promisc.and(Some(link.promisc)),
            mtu: wanted.mtu.and(Some(link.mtu)),
            allmulti: wanted.allmulti.and(Some(link.allmulti)),
            tx_q_len: wanted.tx_q_len.and(Some(link.txqlen)),
        })
    }

    /// Sets them in one request; a MAC may be changed only while the link is down on some drivers, so errors name it.
    pub fn apply(&self, netlink: &mut Netlink, link: &Link) -> Result<(), Error> {
        let change = Change {
            mac: self.mac()?,
            promisc: self.promisc,
            mtu: self.mtu,
            allmulti: self.allmulti,
            txqlen: self.tx_q_len,
            ..Default::default()
        };
        netlink
            .request(&link::change(link.index, &change))
            .map_err(Error::internal)
    }

    /// CHECK: each is still so.
    pub fn check(&self, link: &Link) -> Result<(), Error> {
        let name = &link.name;
        let wrong = |what: &str, wanted: String, is: String| {
            Err(Error::internal(format!(
                "Error: Tuning configured {what} of {name} is {wanted}, current value is {is}"
            )))
        };
        match self {
            _ if self.mac()?.is_some_and(|mac| Some(mac) != link.mac) => {
                wrong("MAC Address", text(&self.mac), text(&link.mac))
            }
            _ if self.promisc.is_some_and(|on| on != link.promisc) => {
                wrong("promisc", text(&self.promisc), link.promisc.to_string())
            }
            _ if self.mtu.is_some_and(|mtu| mtu != link.mtu) => {
                wrong("MTU", text(&self.mtu), link.mtu.to_string())
            }
            _ if self.allmulti.is_some_and(|on| on != link.allmulti) => {
                wrong("allmulti", text(&self.allmulti), link.allmulti.to_string())
            }
            _ if self.tx_q_len.is_some_and(|len| len != link.txqlen) => {
                wrong("txQLen", text(&self.tx_q_len), link.txqlen.to_string())
            }
            _ => Ok(()),
        }
    }

    fn mac(&self) -> Result<Option<Mac>, Error> {
        let parse = |mac: &String| {
            mac.parse()
                .map_err(|error| Error::internal(format!("invalid MAC {mac:?}: {error}")))
        };
        self.mac.as_ref().map(parse).transpose()
    }
}

fn text<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}
