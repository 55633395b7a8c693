//! The plugin's keys. Addresses of `args.cni.ips`, or else of `runtimeConfig.ips`, replace those of
//! `ipam.addresses`; then `IP=` and `GATEWAY=` of CNI_ARGS add to them.

use cni_conf::{Dns, Error, Route};
use go_compat::cidr;
use ipnetwork::IpNetwork;
use plugin::Call;
use serde::Deserialize;
use std::net::IpAddr;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Conf {
    ipam: Option<IpamKeys>,
    runtime_config: Ips,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IpamKeys {
    addresses: Vec<AddressKeys>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AddressKeys {
    address: String,
    gateway: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Ips,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ips {
    ips: Vec<String>,
}

/// What is to be given.
#[derive(Debug)]
pub struct Ipam {
    /// in order
    pub addresses: Vec<Address>,
    /// as configured
    pub routes: Vec<Route>,
    /// as configured
    pub dns: Dns,
}

/// One address.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// with host bits
    pub net: IpNetwork,
    /// of the same family
    pub gateway: Option<IpAddr>,
}

impl Ipam {
    /// From stdin and CNI_ARGS.
    pub fn of(call: &Call) -> Result<Ipam, Error> {
        let args = call.args(&["IP", "GATEWAY"])?;
        let arg = |index: usize| args.get(index).cloned().flatten().unwrap_or_default();
        Ipam::new(call.conf()?, &arg(0), &arg(1))
    }

    fn new(conf: Conf, ip_args: &str, gateway_args: &str) -> Result<Ipam, Error> {
        let keys = conf
            .ipam
            .ok_or_else(|| Error::internal("IPAM config missing 'ipam' key"))?;
        let mut addresses = keys
            .addresses
            .iter()
            .map(Address::of)
            .collect::<Result<Vec<_>, _>>()?;
        for replacing in [&conf.runtime_config.ips, &conf.args.cni.ips] {
            if !replacing.is_empty() {
                let given = replacing.iter().map(|text| {
                    cidr_of(
                        text,
                        "an entry in the 'ips' field is NOT in CIDR notation, got",
                    )
                });
                addresses = given
                    .map(|net| {
                        Ok(Address {
                            net: net?,
                            gateway: None,
                        })
                    })
                    .collect::<Result<_, Error>>()?;
            }
        }
        for text in parts(ip_args) {
            let net = cidr_of(
                text,
                "the 'ip' field is expected to be in CIDR notation, got",
            )?;
            addresses.push(Address { net, gateway: None });
        }
        for text in parts(gateway_args) {
            let gateway = cidr::parse_ip(text)
                .map_err(|_| Error::internal(format!("invalid gateway address: {text}")))?;
            for address in addresses
                .iter_mut()
                .filter(|address| address.net.contains(gateway))
            {
                address.gateway = Some(gateway);
            }
        }
        Ok(Ipam {
            addresses,
            routes: keys.routes,
            dns: keys.dns,
        })
    }
}

impl Address {
    fn of(keys: &AddressKeys) -> Result<Address, Error> {
        let net = cidr_of(
            &keys.address,
            "the 'address' field is expected to be in CIDR notation, got",
        )?;
        let gateway = keys.gateway.as_deref().filter(|text| !text.is_empty());
        let gateway = gateway
            .map(cidr::parse_ip)
            .transpose()
            .map_err(Error::internal)?;
        match gateway {
            Some(gateway) if gateway.is_ipv6() != net.is_ipv6() => Err(Error::internal(format!(
                "gateway {gateway} is not of the family of {net}"
            ))),
            gateway => Ok(Address { net, gateway }),
        }
    }
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn cidr_of(text: &str, complaint: &str) -> Result<IpNetwork, Error> {
    cidr::parse(text).map_err(|_| Error::internal(format!("{complaint}: '{text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(text: &str, ip: &str, gateway: &str) -> Result<Ipam, Error> {
        Ipam::new(
            go_compat::json::from_slice(text.as_bytes()).unwrap(),
            ip,
            gateway,
        )
    }

    fn texts(ipam: &Ipam) -> Vec<String> {
        ipam.addresses
            .iter()
            .map(|address| address.net.to_string())
            .collect()
    }

    const TWO: &str = r#"{"ipam":{"addresses":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"},{"address":"fd00::2/64"}]}}"#;

    #[test]
    fn arguments_add_and_gateways_find_their_subnet() {
        let ipam = ipam(TWO, "10.9.0.5/16, 10.8.0.1/16", "10.9.0.1,fd00::1").unwrap();
        assert_eq!(
            texts(&ipam),
            ["10.1.2.3/24", "fd00::2/64", "10.9.0.5/16", "10.8.0.1/16"]
        );
        let gateways: Vec<_> = ipam
            .addresses
            .iter()
            .map(|a| a.gateway.map(|ip| ip.to_string()))
            .collect();
        assert_eq!(
            gateways,
            [
                Some("10.1.2.1".to_owned()),
                Some("fd00::1".into()),
                Some("10.9.0.1".into()),
                None
            ]
        );
    }

    #[test]
    fn ips_replace() {
        let replaced = TWO.replacen('{', r#"{"runtimeConfig":{"ips":["10.5.0.1/24"]},"#, 1);
        assert_eq!(texts(&ipam(&replaced, "", "").unwrap()), ["10.5.0.1/24"]);
        let twice = replaced.replacen('{', r#"{"args":{"cni":{"ips":["10.6.0.1/24"]}},"#, 1);
        assert_eq!(texts(&ipam(&twice, "", "").unwrap()), ["10.6.0.1/24"]);
    }

    #[test]
    fn bad_input_is_named() {
        for (text, ip, gateway, part) in [
            ("{}", "", "", "'ipam' key"),
            (
                r#"{"ipam":{"addresses":[{"address":"10.0.0.1"}]}}"#,
                "",
                "",
                "'10.0.0.1'",
            ),
            (
                r#"{"ipam":{"addresses":[{"address":"10.0.0.1/8","gateway":"::1"}]}}"#,
                "",
                "",
                "::1",
            ),
            (TWO, "10.0.0.1", "", "'10.0.0.1'"),
            (TWO, "", "gw", "invalid gateway address: gw"),
        ] {
            let error = ipam(text, ip, gateway).unwrap_err();
            assert!(error.msg.contains(part), "{error}");
        }
    }
}
