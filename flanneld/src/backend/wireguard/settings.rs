//! The keys of `Backend`, named as upstream names them.

use super::{Error, OVERHEAD, V4_NAME, V6_NAME};
use crate::{
    backend::{self, backend_type::Meaning, mtu},
    model::network_config::NetworkConfig,
};
use go_compat::json;
use linux_net::wireguard::PresharedKey;
use serde::Deserialize;
use serde_json::Value;

/// The values of `Mode`.
pub(super) const MODES: [&str; 4] = ["separate", "auto", "ipv4", "ipv6"];

/// The JSON. Not `Debug`: it has the preshared key.
#[derive(Deserialize)]
#[serde(default)]
struct Keys {
    #[serde(rename = "ListenPort")]
    listen_port: u16,
    #[serde(rename = "ListenPortV6")]
    listen_port_v6: u16,
    #[serde(rename = "MTU")]
    mtu: u32,
    #[serde(rename = "PSK", deserialize_with = "backend::secret")]
    psk: String,
    #[serde(rename = "PersistentKeepaliveInterval")]
    keepalive: i64,
    #[serde(rename = "Mode")]
    mode: String,
    #[serde(rename = "Userspace")]
    userspace: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            listen_port: 51820,
            listen_port_v6: 51821,
            mtu: 0,
            psk: String::new(),
            keepalive: 0,
            mode: "separate".to_owned(),
            userspace: false,
        }
    }
}

pub(super) const KEYS: &[&str] = &[
    "ListenPort",
    "ListenPortV6",
    "MTU",
    "PSK",
    "PersistentKeepaliveInterval",
    "Mode",
    "Userspace",
];

/// Which tunnels there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One for each address family.
    Separate,
    /// One for both families, over the family that suits each peer.
    Auto,
    /// One for both families, over IPv4.
    Ipv4,
    /// One for both families, over IPv6.
    Ipv6,
}

/// What the keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) listen_port: u16,
    /// Of the device for IPv6 where there are two.
    pub(super) listen_port_v6: u16,
    /// Outer, in bytes; 0 is that of the underlay's interface.
    pub(super) mtu: u32,
    pub(super) psk: Option<PresharedKey>,
    /// In seconds; 0 is off.
    pub(super) keepalive: u16,
    pub(super) mode: Mode,
    /// In user space even where the kernel has WireGuard.
    pub(super) user_space: bool,
}

impl Settings {
    pub(super) fn read(config: &NetworkConfig) -> Result<Settings, backend::Error> {
        let backend = Value::Object(config.backend.clone());
        let keys: Keys = json::from_value(backend).map_err(Error::Decode)?;
        let mode = match keys.mode.as_str() {
            "separate" => Mode::Separate,
            "auto" => Mode::Auto,
            "ipv4" => Mode::Ipv4,
            "ipv6" => Mode::Ipv6,
            _ => return Err(Error::Mode(keys.mode).into()),
        };
        let psk = Some(keys.psk).filter(|psk| !psk.is_empty());
        let psk = psk.map(|psk| psk.parse().map_err(Error::PresharedKey));
        let keepalive = u16::try_from(keys.keepalive);
        let settings = Settings {
            listen_port: keys.listen_port,
            listen_port_v6: keys.listen_port_v6,
            mtu: keys.mtu,
            psk: psk.transpose()?,
            keepalive: keepalive.map_err(|_| Error::Keepalive(keys.keepalive))?,
            mode,
            user_space: keys.userspace,
        };
        settings.check(config)?;
        Ok(settings)
    }

    fn check(&self, config: &NetworkConfig) -> Result<(), backend::Error> {
        let (v4, v6) = (config.enable_ipv4, config.enable_ipv6);
        let missing = match self.mode {
            Mode::Ipv4 if !v4 => Some(("ipv4", "IPv4", "EnableIPv4")),
            Mode::Ipv6 if !v6 => Some(("ipv6", "IPv6", "EnableIPv6")),
            _ => None,
        };
        if let Some((mode, family, key)) = missing {
            return Err(Error::ModeWithoutFamily { mode, family, key }.into());
        }
        let separate_v6 = self.mode == Mode::Separate && v6;
        if self.listen_port == 0 && (v4 || !separate_v6) {
            return Err(Error::NoPort("ListenPort").into());
        }
        if self.listen_port_v6 == 0 && separate_v6 {
            return Err(Error::NoPort("ListenPortV6").into());
        }
        if separate_v6 && v4 && self.listen_port == self.listen_port_v6 {
            return Err(Error::SamePort(self.listen_port).into());
        }
        mtu::check(self.mtu, OVERHEAD, config)
    }

    /// The devices that there are, with their ports.
    fn devices(&self, config: &NetworkConfig) -> Vec<(&'static str, u16)> {
        let (v4, v6) = (config.enable_ipv4, config.enable_ipv6);
        let separate = self.mode == Mode::Separate;
        let first = (v4 || !separate).then_some((V4_NAME, self.listen_port));
        let second = (v6 && separate).then_some((V6_NAME, self.listen_port_v6));
        first.into_iter().chain(second).collect()
    }

    pub(super) fn describe(&self, config: &NetworkConfig) -> Meaning {
        let devices = self.devices(config);
        let of_device = |(name, port): &(&str, u16)| format!("device {name} on UDP port {port}");
        let texts: Vec<_> = devices.iter().map(of_device).collect();
        let psk = if self.psk.is_some() {
            ", with a preshared key"
        } else {
            ""
        };
        let user_space = if self.user_space {
            ", in user space"
        } else {
            ""
        };
        Meaning {
            text: format!("wireguard, {}{psk}{user_space}", texts.join(" and ")),
            // a daemon has both names to itself, so that `Mode` can change while it runs
            devices: [V4_NAME, V6_NAME].map(str::to_owned).into(),
        }
    }
}
