//! The plugin's keys. Addresses of `args.cni.ips`, else of `runtimeConfig.ips`, replace those of
//! `ipam.addresses`; then `IP=` and `GATEWAY=` of CNI_ARGS add to them.

use cni_conf::{AddResult, Dns, Error, IpConfig, Route};
use go_compat::cidr;
use plugin::Call;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Conf {
    ipam: Option<Ipam>,
    runtime_config: Ips,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    addresses: Vec<Address>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
    gateway: String,
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

/// The addresses, routes and name servers of the configuration and CNI_ARGS.
pub(crate) fn read(call: &Call) -> Result<AddResult, Error> {
    let args = call.args(&["IP", "GATEWAY"])?;
    let arg = |index: usize| args.get(index).cloned().flatten().unwrap_or_default();
    result(call.conf()?, &arg(0), &arg(1))
}

fn result(conf: Conf, ip_arg: &str, gateway_arg: &str) -> Result<AddResult, Error> {
    let ipam = conf
        .ipam
        .ok_or_else(|| Error::internal("IPAM config missing 'ipam' key"))?;
    let mut ips = ipam
        .addresses
        .iter()
        .map(configured)
        .collect::<Result<Vec<_>, _>>()?;
    for replacing in [&conf.runtime_config.ips, &conf.args.cni.ips] {
        if !replacing.is_empty() {
            let field = "an entry in the 'ips' field is NOT in CIDR notation";
            ips = replacing
                .iter()
                .map(|text| without_gateway(text, field))
                .collect::<Result<_, _>>()?;
        }
    }
    for text in parts(ip_arg) {
        let field = "the 'ip' field is expected to be in CIDR notation";
        ips.push(without_gateway(text, field)?);
    }
    for text in parts(gateway_arg) {
        let gateway = cidr::parse_ip(text)
            .map_err(|_| Error::internal(format!("invalid gateway address: {text}")))?;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(AddResult {
        ips,
        routes: ipam.routes,
        dns: ipam.dns,
        ..AddResult::default()
    })
}

/// An entry of `ipam.addresses`.
fn configured(keys: &Address) -> Result<IpConfig, Error> {
    let field = "the 'address' field is expected to be in CIDR notation";
    let mut ip = without_gateway(&keys.address, field)?;
    if keys.gateway.is_empty() {
        return Ok(ip);
    }
    let gateway = cidr::parse_ip(&keys.gateway).map_err(Error::internal)?;
    if gateway.is_ipv6() != ip.address.is_ipv6() {
        return Err(Error::internal(format!(
            "gateway {gateway} is not of the family of {}",
            ip.address
        )));
    }
    ip.gateway = Some(gateway);
    Ok(ip)
}

/// `complaint` is upstream's about the field that `text` is from.
fn without_gateway(text: &str, complaint: &str) -> Result<IpConfig, Error> {
    match cidr::parse(text) {
        Ok(address) => Ok(IpConfig {
            interface: None,
            address,
            gateway: None,
        }),
        Err(_) => Err(Error::internal(format!("{complaint}, got: '{text}'"))),
    }
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(text: &str, ip: &str, gateway: &str) -> Result<AddResult, Error> {
        result(
            go_compat::json::from_slice(text.as_bytes()).unwrap(),
            ip,
            gateway,
        )
    }

    fn texts(ipam: &AddResult) -> Vec<String> {
        ipam.ips.iter().map(|ip| ip.address.to_string()).collect()
    }

    const TWO: &str = r#"{"ipam":{"addresses":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"},{"address":"fd00::2/64"}]}}"#;

    #[test]
    fn arguments_add_and_gateways_match_their_subnet() {
        let ipam = ipam(TWO, "10.9.0.5/16, 10.8.0.1/16", "10.9.0.1,fd00::1").unwrap();
        assert_eq!(
            texts(&ipam),
            ["10.1.2.3/24", "fd00::2/64", "10.9.0.5/16", "10.8.0.1/16"]
        );
        let gateways: Vec<_> = ipam
            .ips
            .iter()
            .map(|ip| ip.gateway.map(|ip| ip.to_string()))
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
    fn ips_replace_the_configured_addresses() {
        let replaced = TWO.replacen('{', r#"{"runtimeConfig":{"ips":["10.5.0.1/24"]},"#, 1);
        assert_eq!(texts(&ipam(&replaced, "", "").unwrap()), ["10.5.0.1/24"]);
        let twice = replaced.replacen('{', r#"{"args":{"cni":{"ips":["10.6.0.1/24"]}},"#, 1);
        assert_eq!(texts(&ipam(&twice, "", "").unwrap()), ["10.6.0.1/24"]);
    }

    #[test]
    fn errors_name_the_input() {
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
