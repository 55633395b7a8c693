//! The plugin's keys, in upstream's precedence: `IP` of CNI_ARGS adds to `ipam.addresses`,
//! `args.cni.ips` replaces both, and `runtimeConfig.ips` replaces all of them. `GATEWAY` belongs to
//! the addresses of `IP` alone. Addresses that are replaced are not read.

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
    let replacing = [&conf.runtime_config.ips, &conf.args.cni.ips];
    let from_args = of_args(ip_arg, gateway_arg)?;
    let ips = match replacing.into_iter().find(|ips| !ips.is_empty()) {
        Some(replacing) => replacing
            .iter()
            .map(|text| {
                without_gateway(text, "an entry in the 'ips' field is NOT in CIDR notation")
            })
            .collect::<Result<Vec<_>, _>>()?,
        None => {
            let configured = ipam.addresses.iter().map(configured);
            configured
                .chain(from_args.into_iter().map(Ok))
                .collect::<Result<_, _>>()?
        }
    };
    Ok(AddResult {
        ips,
        routes: ipam.routes,
        dns: ipam.dns,
        ..AddResult::default()
    })
}

/// The addresses of `IP`, with the gateway of `GATEWAY` that is in their subnet.
fn of_args(ip_arg: &str, gateway_arg: &str) -> Result<Vec<IpConfig>, Error> {
    let field = "the 'ip' field is expected to be in CIDR notation";
    let mut ips = parts(ip_arg)
        .map(|text| without_gateway(text, field))
        .collect::<Result<Vec<_>, _>>()?;
    for text in parts(gateway_arg) {
        let gateway = cidr::parse_ip(text)
            .map_err(|_| Error::internal(format!("invalid gateway address: {text}")))?;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(ips)
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

/// The entries of a comma list; none for an empty text. As upstream, an empty entry of a list is
/// one that cannot be read.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    let entries = (!list.is_empty()).then(|| list.split(',').map(str::trim));
    entries.into_iter().flatten()
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
    fn arguments_add_and_their_gateways_are_theirs_alone() {
        let ipam = ipam(TWO, "10.9.0.5/16, 10.1.2.9/24", "10.9.0.1,10.1.2.8,fd00::1").unwrap();
        assert_eq!(
            texts(&ipam),
            ["10.1.2.3/24", "fd00::2/64", "10.9.0.5/16", "10.1.2.9/24"]
        );
        let gateways: Vec<_> = ipam
            .ips
            .iter()
            .map(|ip| ip.gateway.map(|ip| ip.to_string()))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            gateways,
            [some("10.1.2.1"), None, some("10.9.0.1"), some("10.1.2.8")]
        );
    }

    /// `runtimeConfig.ips` before `args.cni.ips` before CNI_ARGS and the configuration.
    #[test]
    fn ips_replace_all_others() {
        let args = "10.9.0.5/16";
        let one = TWO.replacen('{', r#"{"args":{"cni":{"ips":["10.6.0.1/24"]}},"#, 1);
        let replaced = ipam(&one, args, "10.6.0.9").unwrap();
        assert_eq!(texts(&replaced), ["10.6.0.1/24"]);
        assert_eq!(replaced.ips[0].gateway, None);
        let both = one.replacen('{', r#"{"runtimeConfig":{"ips":["10.5.0.1/24"]},"#, 1);
        assert_eq!(texts(&ipam(&both, args, "").unwrap()), ["10.5.0.1/24"]);
        let unread = both.replace("10.1.2.3/24", "no address");
        assert_eq!(texts(&ipam(&unread, args, "").unwrap()), ["10.5.0.1/24"]);
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
            (TWO, "10.0.0.1/8,", "", "got: ''"),
            (TWO, "", "gw", "invalid gateway address: gw"),
        ] {
            let error = ipam(text, ip, gateway).unwrap_err();
            assert!(error.msg.contains(part), "{error}");
        }
    }
}
