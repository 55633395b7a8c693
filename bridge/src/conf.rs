//! The plugin's keys: read as upstream reads them, then checked once and turned into what the rest works with.
use crate::{Error, vlan};
use linux_net::Mac;
use plugin::Call;
use serde::Deserialize;

/// The keys as they are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Keys {
    bridge: String,
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
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    mac: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    mac: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            bridge: "cni0".into(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: None,
            mtu: 0,
            hairpin_mode: false,
            promisc_mode: false,
            vlan: 0,
            vlan_trunk: Vec::new(),
            preserve_default_vlan: false,
            macspoofchk: false,
            enabledad: false,
            disable_container_interface: false,
            port_isolation: false,
            args: Args::default(),
            runtime_config: RuntimeConfig::default(),
        }
    }
}

/// Who writes the masquerade rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// not said: iptables, unless only nftables can be used
    Unset,
    /// `"iptables"`
    Iptables,
    /// `"nftables"`
    Nftables,
}

/// VLANs of a pod's port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vlans {
    /// `vlan`: the port's own, untagged
    pub access: Option<u16>,
    /// `vlanTrunk`: tagged ones, in order
    pub trunk: Vec<u16>,
    /// `preserveDefaultVlan`: what the bridge gives each port stays
    pub preserve_default: bool,
}

impl Vlans {
    /// The bridge has to filter.
    pub fn any(&self) -> bool {
        self.access.is_some() || !self.trunk.is_empty()
    }
}

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// name of the bridge
    pub bridge: String,
    /// the bridge has the pods' gateway address
    pub gateway: bool,
    /// pods get a default route through it
    pub default_gateway: bool,
    /// another subnet's address on the bridge is replaced under live pods too
    pub force_address: bool,
    /// None: no masquerade
    pub masquerade: Option<Backend>,
    /// bytes; None: the kernel's default
    pub mtu: Option<u32>,
    /// `hairpinMode`
    pub hairpin: bool,
    /// `promiscMode`
    pub promisc: bool,
    /// `portIsolation`
    pub isolated: bool,
    /// `vlan`, `vlanTrunk`, `preserveDefaultVlan`
    pub vlans: Vlans,
    /// `macspoofchk`
    pub spoof_check: bool,
    /// `enabledad`: duplicate address detection takes place and is waited for
    pub dad: bool,
    /// `disableContainerInterface`: the container's end stays down
    pub leave_down: bool,
    /// there is an IPAM plugin
    pub layer3: bool,
    /// asked for by runtimeConfig, args.cni or CNI_ARGS, in this order
    pub mac: Option<Mac>,
}

impl Settings {
    /// From a call: its configuration and the `MAC` of its CNI_ARGS.
    pub fn of(call: &Call) -> Result<Settings, Error> {
        let keys: Keys = call.conf()?;
        let arg = call.args(&["MAC"])?.into_iter().next().flatten();
        keys.check(arg.unwrap_or_default(), !call.net.ipam_type.is_empty())
    }
}

impl Keys {
    /// Checks the keys against each other; `mac_arg` is CNI_ARGS' `MAC`, `layer3` says that there is an IPAM plugin.
    pub(crate) fn check(self, mac_arg: String, layer3: bool) -> Result<Settings, Error> {
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
            bridge: self.bridge,
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

    fn mac(&self, arg: String) -> Result<Option<Mac>, Error> {
        let sources = [&self.runtime_config.mac, &self.args.cni.mac, &arg];
        let Some(text) = sources.into_iter().find(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let mac = text.parse().map_err(|_| Error::InvalidMac(text.clone()))?;
        Ok(Some(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    fn read(json: &str) -> Result<Settings, Error> {
        let keys: Keys = json::from_slice(json.as_bytes()).unwrap();
        keys.check(String::new(), true)
    }

    fn message(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn defaults() {
        let settings = read("{}").unwrap();
        assert_eq!(settings.bridge, "cni0");
        assert_eq!(settings.mtu, None);
        assert_eq!(settings.masquerade, None);
        assert_eq!(settings.vlans, Vlans::default());
        assert!(!settings.gateway && !settings.hairpin && !settings.dad && !settings.isolated);
    }

    #[test]
    fn keys_match_as_go_matches_them() {
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
    fn what_excludes_each_other() {
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
    fn three_ways_to_a_mac() {
        let json = |runtime: &str, cni: &str| {
            format!(
                r#"{{"runtimeConfig":{{"mac":"{runtime}"}},"args":{{"cni":{{"mac":"{cni}"}}}}}}"#
            )
        };
        let mac = |text: String, arg: &str| {
            let keys: Keys = json::from_slice(text.as_bytes()).unwrap();
            keys.check(arg.into(), true)
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
