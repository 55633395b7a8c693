//! The plugin's configuration: the keys as upstream reads them, checked once into [`Settings`].

use crate::{
    Error,
    vlan::{self, Vlans},
};
use linux_net::Mac;
use plugin::Call;
use serde::Deserialize;

/// The keys as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: i64,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Vec<vlan::Trunk>,
    preserve_default_vlan: bool,
    macspoofchk: bool,
    enabledad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    args: Args,
    runtime_config: MacKey,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: MacKey,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MacKey {
    mac: String,
}

/// `ipMasqBackend`: which program's rules masquerade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The key is absent: iptables, or nftables where iptables does not work.
    Unset,
    Iptables,
    Nftables,
}

/// The checked configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) bridge: String,
    /// The bridge has the pods' gateway addresses.
    pub(crate) gateway: bool,
    /// Pods get a default route through the bridge.
    pub(crate) default_gateway: bool,
    /// The bridge's address of another subnet is replaced even if pods may use it.
    pub(crate) force_address: bool,
    pub(crate) masquerade: Option<Backend>,
    /// In bytes; None: the kernel's default.
    pub(crate) mtu: Option<u32>,
    pub(crate) hairpin: bool,
    pub(crate) promisc: bool,
    pub(crate) isolated: bool,
    pub(crate) vlans: Vlans,
    pub(crate) spoof_check: bool,
    /// Duplicate address detection takes place, and ADD waits for its end.
    pub(crate) dad: bool,
    /// The container's interface stays down.
    pub(crate) leave_down: bool,
    /// There is an IPAM plugin.
    pub(crate) layer3: bool,
    /// The MAC address requested for the container's interface.
    pub(crate) mac: Option<Mac>,
}

impl Settings {
    /// Reads the configuration and the `MAC` of CNI_ARGS.
    pub(crate) fn of(call: &Call) -> Result<Settings, Error> {
        let keys: Keys = call.conf()?;
        let mac_arg = call.args(&["MAC"])?.into_iter().next().flatten();
        keys.check(mac_arg.as_deref(), !call.net.ipam_type.is_empty())
    }
}

impl Keys {
    fn check(self, mac_arg: Option<&str>, layer3: bool) -> Result<Settings, Error> {
        let vlans = Vlans {
            access: vlan::access(self.vlan)?,
            trunk: vlan::trunk(&self.vlan_trunk)?,
            preserve_default: self.preserve_default_vlan,
        };
        let mac = self.mac(mac_arg)?;
        if layer3 && self.disable_container_interface {
            return Err(Error::IpamWithoutInterface);
        }
        if self.hairpin_mode && self.promisc_mode {
            return Err(Error::HairpinAndPromisc);
        }
        let masquerade = match (self.ip_masq, self.ip_masq_backend.as_deref()) {
            (false, _) => None,
            (true, None | Some("")) => Some(Backend::Unset),
            (true, Some("iptables")) => Some(Backend::Iptables),
            (true, Some("nftables")) => Some(Backend::Nftables),
            (true, Some(other)) => return Err(Error::MasqueradeBackend(other.into())),
        };
        Ok(Settings {
            bridge: self.bridge.unwrap_or_else(|| "cni0".into()),
            gateway: self.is_gateway || self.is_default_gateway,
            default_gateway: self.is_default_gateway,
            force_address: self.force_address,
            masquerade,
            mtu: u32::try_from(self.mtu).ok().filter(|&mtu| mtu > 0),
            hairpin: self.hairpin_mode,
            promisc: self.promisc_mode,
            isolated: self.port_isolation,
            vlans,
            spoof_check: self.macspoofchk,
            dad: self.enabledad,
            leave_down: self.disable_container_interface,
            layer3,
            mac,
        })
    }

    /// The first of runtimeConfig, `args.cni` and CNI_ARGS that is set.
    fn mac(&self, arg: Option<&str>) -> Result<Option<Mac>, Error> {
        let sources = [
            self.runtime_config.mac.as_str(),
            self.args.cni.mac.as_str(),
            arg.unwrap_or_default(),
        ];
        let Some(text) = sources.into_iter().find(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let mac = text.parse().map_err(|_| Error::InvalidMac(text.into()))?;
        Ok(Some(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    fn read(json: &str) -> Result<Settings, Error> {
        let keys: Keys = json::from_slice(json.as_bytes()).unwrap();
        keys.check(None, true)
    }

    fn message(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn empty_configuration_gives_the_defaults() {
        let settings = read("{}").unwrap();
        assert_eq!(settings.bridge, "cni0");
        assert_eq!(settings.mtu, None);
        assert_eq!(settings.masquerade, None);
        assert_eq!(settings.vlans, Vlans::default());
        assert!(!settings.gateway && !settings.hairpin && !settings.dad && !settings.isolated);
    }

    #[test]
    fn keys_match_without_regard_to_case() {
        let settings = read(
            r#"{"BRIDGE":"br7","isdefaultgateway":true,"ipMasq":true,"ipMasqBackend":null,"mtu":1450,
                "hairpinMode":true,"portIsolation":true,"macspoofchk":true,"vlan":null,"args":{"cni":{"other":[1]}}}"#,
        )
        .unwrap();
        assert_eq!(settings.bridge, "br7");
        assert!(settings.gateway && settings.default_gateway && settings.hairpin);
        assert!(settings.isolated && settings.spoof_check);
        assert_eq!(settings.masquerade, Some(Backend::Unset));
        assert_eq!(settings.mtu, Some(1450));
    }

    #[test]
    fn keys_that_exclude_each_other_are_refused() {
        assert_eq!(
            message(r#"{"hairpinMode":true,"promiscMode":true}"#),
            "cannot set hairpin mode and promiscuous mode at the same time"
        );
        assert_eq!(
            message(r#"{"disableContainerInterface":true}"#),
            "cannot use IPAM when DisableContainerInterface flag is set"
        );
        assert_eq!(
            message(r#"{"ipMasq":true,"ipMasqBackend":"ebtables"}"#),
            "unknown ipmasq backend \"ebtables\""
        );
        assert!(read(r#"{"ipMasq":false,"ipMasqBackend":"ebtables"}"#).is_ok());
    }

    #[test]
    fn mac_of_runtime_config_wins_over_args_and_cni_args() {
        let json = |runtime: &str, cni: &str| {
            format!(
                r#"{{"runtimeConfig":{{"mac":"{runtime}"}},"args":{{"cni":{{"mac":"{cni}"}}}}}}"#
            )
        };
        let mac = |text: String, arg: &str| {
            let keys: Keys = json::from_slice(text.as_bytes()).unwrap();
            keys.check(Some(arg), true)
                .map(|settings| settings.mac.map(|mac| mac.to_string()))
        };
        let (a, b, c) = (
            "02:00:00:00:00:0a",
            "02:00:00:00:00:0b",
            "02:00:00:00:00:0c",
        );
        assert_eq!(mac(json(a, b), c).unwrap().as_deref(), Some(a));
        assert_eq!(mac(json("", b), c).unwrap().as_deref(), Some(b));
        assert_eq!(mac(json("", ""), c).unwrap().as_deref(), Some(c));
        assert_eq!(mac(json("", ""), "").unwrap(), None);
        assert_eq!(
            mac(json("", ""), "zz").unwrap_err().to_string(),
            "failed to make veth pair: address zz: invalid MAC address"
        );
    }
}
