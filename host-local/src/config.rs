//! host-local's keys (reference: its `LoadIPAMConfig`).
use crate::{
    error::Error,
    range::{ParsedSpec, RangeSpec},
    range_set::RangeSet,
};
use cni_conf::{AddResult, Route, Version};
use go_compat::cidr;
use plugin::Call;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

/// Where reservations are kept unless `dataDir` says otherwise.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// What the verbs need of a configuration that was found right.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// each gives one address; the position is the number in `last_reserved_ip.N`
    pub sets: Vec<RangeSet>,
    /// addresses asked for, in the order CNI_ARGS, args, runtimeConfig; each once
    pub requested: Vec<IpAddr>,
    /// given in the result as they are
    pub routes: Vec<Route>,
    /// a resolv.conf whose content goes into the result
    pub resolv_conf: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    ipam: Option<Ipam>,
    runtime_config: RuntimeConfig,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    subnet: Option<String>,
    range_start: Option<String>,
    range_end: Option<String>,
    gateway: Option<String>,
    ranges: Vec<Vec<RangeSpec>>,
    routes: Value,
    resolv_conf: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    ip_ranges: Vec<Vec<RangeSpec>>,
    ips: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    ips: Vec<String>,
}

/// Reads and checks everything that ADD and STATUS need.
pub fn load(call: &Call) -> Result<Config, cni_conf::Error> {
    let keys: Keys = call.conf()?;
    let ipam = keys.ipam.ok_or(Error::NoIpam)?;
    let inline = RangeSpec {
        subnet: ipam.subnet,
        range_start: ipam.range_start,
        range_end: ipam.range_end,
        gateway: ipam.gateway,
    };
    let inline = inline.subnet.is_some().then(|| vec![inline]);
    let specs = keys
        .runtime_config
        .ip_ranges
        .into_iter()
        .chain(inline)
        .chain(ipam.ranges);
    let sets = range_sets(specs, call.net.version)?;

    let mut requested: Vec<IpAddr> = ip_of_cni_args(call)?.into_iter().collect();
    for text in keys.args.cni.ips.iter().chain(&keys.runtime_config.ips) {
        requested.push(requested_ip(text).map_err(Error::Address)?);
    }
    let mut seen = Vec::with_capacity(requested.len());
    requested.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });

    // a result's routes and a configuration's are of one form
    let routes = AddResult::from_value(&json!({ "routes": ipam.routes }), Version::CURRENT)?.routes;
    let resolv_conf = Some(ipam.resolv_conf).filter(|path| !path.is_empty());
    Ok(Config {
        sets,
        requested,
        routes,
        resolv_conf: resolv_conf.map(PathBuf::from),
    })
}

/// The folder of the network's reservations, and the one beside it that is ours alone. Nothing but `ipam.dataDir` is looked at, so
/// that DEL, CHECK and GC work whatever has become of the ranges.
pub fn folders(call: &Call) -> Result<(PathBuf, PathBuf), cni_conf::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Keys {
        ipam: Ipam,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Ipam {
        data_dir: String,
    }
    let Keys { ipam } = call.conf()?;
    let data_dir = match ipam.data_dir.as_str() {
        "" => Path::new(DATA_DIR),
        given => Path::new(given),
    };
    Ok((
        data_dir.join(&call.net.name),
        // no network's name begins with a dot
        data_dir.join(".host-local").join(&call.net.name),
    ))
}

fn range_sets(
    specs: impl Iterator<Item = Vec<RangeSpec>>,
    version: Version,
) -> Result<Vec<RangeSet>, Error> {
    let parse = |set: Vec<RangeSpec>| set.iter().map(RangeSpec::parse).collect();
    let specs: Vec<Vec<ParsedSpec>> = specs
        .map(parse)
        .collect::<Result<_, String>>()
        .map_err(Error::Address)?;
    if specs.is_empty() {
        return Err(Error::NoRanges);
    }
    let mut sets = Vec::with_capacity(specs.len());
    for (index, specs) in specs.iter().enumerate() {
        let set = RangeSet::new(specs).map_err(|source| Error::Range { index, source })?;
        sets.push(set);
    }
    let v4 = sets.iter().filter(|set| set.is_ipv4()).count();
    if version < Version::V0_3_0 && (v4 > 1 || sets.len() - v4 > 1) {
        return Err(Error::OnePerFamily(version.as_str()));
    }
    for (i, one) in sets.iter().enumerate() {
        for (j, two) in sets.iter().enumerate().skip(i + 1) {
            if one.overlaps(two) {
                return Err(Error::SetsOverlap(i, j));
            }
        }
    }
    Ok(sets)
}

/// A length behind the address is dropped: the subnet has its own.
fn requested_ip(text: &str) -> Result<IpAddr, String> {
    if text.contains('/') {
        cidr::parse(text).map(|net| net.ip())
    } else {
        cidr::parse_ip(text)
    }
}

fn ip_of_cni_args(call: &Call) -> Result<Option<IpAddr>, cni_conf::Error> {
    let Some(Some(text)) = call.args(&["IP"])?.into_iter().next() else {
        return Ok(None);
    };
    let wrong = |_| {
        cni_conf::Error::internal(format!(
            "ARGS: error parsing value of pair {:?}: invalid IP address {text}",
            format!("IP={text}")
        ))
    };
    requested_ip(&text).map(Some).map_err(wrong)
}
