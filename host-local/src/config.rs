//! The plugin's configuration (upstream: `LoadIPAMConfig`).

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

/// The default of `dataDir`.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// What ADD and STATUS need of the configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Each gives one address; its position is the number in `last_reserved_ip.N`.
    pub(crate) sets: Vec<RangeSet>,
    /// The distinct requested addresses, in the order CNI_ARGS, args, runtimeConfig.
    pub(crate) requested: Vec<IpAddr>,
    /// The result's routes.
    pub(crate) routes: Vec<Route>,
    /// A resolv.conf with the result's DNS settings.
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) folders: Folders,
    /// STATUS fails while a set has no free address.
    pub(crate) not_available_when_full: bool,
}

/// The folders of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Folders {
    /// Upstream's: the reservations.
    pub(crate) store: PathBuf,
    /// The plugin's own: the index of the reservations.
    pub(crate) index: PathBuf,
}

impl Folders {
    /// The folder of the indexes; the name of a network does not begin with a dot.
    pub(crate) const INDEXES: &str = ".host-local";

    fn new(data_dir: &str, network: &str) -> Folders {
        let data_dir = match data_dir {
            "" => Path::new(DATA_DIR),
            given => Path::new(given),
        };
        Folders::in_folder(data_dir, network)
    }

    pub(crate) fn in_folder(data_dir: &Path, network: &str) -> Folders {
        Folders {
            store: data_dir.join(network),
            index: data_dir.join(Folders::INDEXES).join(network),
        }
    }
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
    data_dir: String,
    not_available_when_full: bool,
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

/// The only keys that DEL, CHECK and GC read: invalid ranges do not prevent them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct FolderKeys {
    ipam: FolderIpam,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FolderIpam {
    data_dir: String,
}

/// Reads and checks all keys.
pub(crate) fn load(call: &Call) -> Result<Config, cni_conf::Error> {
    let keys: Keys = call.conf()?;
    let ipam = keys.ipam.ok_or(Error::NoIpam)?;
    let inline = RangeSpec {
        subnet: ipam.subnet,
        range_start: ipam.range_start,
        range_end: ipam.range_end,
        gateway: ipam.gateway,
    };
    let inline = inline.subnet.is_some().then(|| vec![inline]);
    let specs = keys.runtime_config.ip_ranges.into_iter();
    let specs = specs.chain(inline).chain(ipam.ranges);
    let sets = range_sets(specs, call.net.version)?;

    let mut requested: Vec<IpAddr> = ip_of_cni_args(call)?.into_iter().collect();
    for text in keys.args.cni.ips.iter().chain(&keys.runtime_config.ips) {
        let ip = requested_ip(text).map_err(Error::Address)?;
        if !requested.contains(&ip) {
            requested.push(ip);
        }
    }
    // the routes of a result and of a configuration have the same form
    let routes = AddResult::from_value(&json!({ "routes": ipam.routes }), Version::CURRENT)?.routes;
    let resolv_conf = Some(ipam.resolv_conf).filter(|path| !path.is_empty());
    Ok(Config {
        sets,
        requested,
        routes,
        resolv_conf: resolv_conf.map(PathBuf::from),
        folders: Folders::new(&ipam.data_dir, &call.net.name),
        not_available_when_full: ipam.not_available_when_full,
    })
}

/// Reads `ipam.dataDir` alone.
pub(crate) fn folders(call: &Call) -> Result<Folders, cni_conf::Error> {
    let keys: FolderKeys = call.conf()?;
    Ok(Folders::new(&keys.ipam.data_dir, &call.net.name))
}

fn range_sets(
    specs: impl Iterator<Item = Vec<RangeSpec>>,
    version: Version,
) -> Result<Vec<RangeSet>, Error> {
    let parse = |set: Vec<RangeSpec>| set.iter().map(RangeSpec::parse).collect();
    let specs: Vec<Vec<ParsedSpec>> = specs
        .map(parse)
        .collect::<Result<_, cidr::ParseError>>()
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

/// Drops a prefix length: the subnet has its own.
fn requested_ip(text: &str) -> Result<IpAddr, cidr::ParseError> {
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
    // as upstream: without a value it requests nothing
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| {
        cni_conf::Error::internal(format!(
            "ARGS: error parsing value of pair {:?}: invalid IP address {text}",
            format!("IP={text}")
        ))
    };
    requested_ip(&text).map(Some).map_err(wrong)
}
