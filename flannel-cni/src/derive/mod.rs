//! The delegate's configuration, byte for byte as upstream makes it: after a downgrade, upstream's
//! plugin reads it from the state file.

use crate::{Error, conf::Conf};
use cni_conf::Route;
use go_compat::{cidr, json};
use ipnetwork::IpNetwork;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use subnet_env::SubnetEnv;

/// This plugin's own type.
const OWN_TYPE: &str = "flannel";

/// The plugin that is delegated to, with its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delegate {
    /// `type`
    pub(crate) plugin_type: String,
    /// Compact JSON with sorted keys.
    pub(crate) config: Vec<u8>,
}

impl Delegate {
    /// Reads a state file. None if it is damaged: not a JSON object with a `type`.
    pub(crate) fn from_saved(config: Vec<u8>) -> Option<Delegate> {
        let saved: Map<String, Value> = serde_json::from_slice(&config).ok()?;
        let plugin_type = saved.get("type")?.as_str()?.to_owned();
        Some(Delegate {
            plugin_type,
            config,
        })
    }

    /// Sets keys.
    #[must_use]
    pub(crate) fn with(self, keys: impl IntoIterator<Item = (&'static str, Value)>) -> Delegate {
        let mut object = self.object();
        object.extend(keys.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self.of(&object)
    }

    /// Removes a key.
    #[must_use]
    pub(crate) fn without(self, key: &str) -> Delegate {
        let mut object = self.object();
        object.remove(key);
        self.of(&object)
    }

    /// True if the delegate is this plugin itself: no ADD can have succeeded.
    pub(crate) fn is_itself(&self) -> bool {
        self.plugin_type == OWN_TYPE
    }

    /// The IPAM plugin of the delegate, which gets the same configuration.
    pub(crate) fn ipam(&self) -> Delegate {
        let object = self.object();
        let plugin_type = object
            .get("ipam")
            .and_then(|ipam| ipam.get("type")?.as_str());
        Delegate {
            plugin_type: plugin_type.unwrap_or_default().to_owned(),
            config: self.config.clone(),
        }
    }

    pub(crate) fn is_of_network(&self, name: &str) -> bool {
        self.object().get("name").and_then(Value::as_str) == Some(name)
    }

    /// `from_saved` and `derive` only make objects.
    fn object(&self) -> Map<String, Value> {
        serde_json::from_slice(&self.config).unwrap_or_default()
    }

    fn of(self, object: &Map<String, Value>) -> Delegate {
        Delegate {
            plugin_type: self.plugin_type,
            config: json::marshal(object).into_bytes(),
        }
    }
}

/// A value of the derived object. In Go, everything but the routes is a map, whose keys are sorted.
#[derive(Serialize)]
#[serde(untagged)]
enum Part {
    Value(Value),
    Ipam(BTreeMap<String, Part>),
    Routes(Vec<Route>),
}

/// Derives from the configuration and the node's subnets in `env`. Without `env` (DEL, GC and
/// validation) the keys that depend on it are missing; plugins find by name what they remove.
pub(crate) fn derive(conf: &Conf, env: Option<&SubnetEnv>) -> Result<Delegate, Error> {
    let mut delegate = user_delegate(conf)?;
    if let Some(runtime_config) = &conf.runtime_config {
        delegate.insert("runtimeConfig".into(), runtime_config.clone().into());
    }
    delegate.insert("name".into(), conf.name.clone().into());
    let mut default = |key: &str, value: Value| {
        delegate.entry(key).or_insert(value);
    };
    default("type", "bridge".into());
    if let Some(env) = env {
        default("ipMasq", (!env.ip_masq).into());
        default("mtu", env.mtu.into());
    }
    let plugin_type = match delegate.get("type") {
        Some(Value::String(plugin_type)) => plugin_type.clone(),
        _ => return Err(Error::DelegateType),
    };
    if plugin_type == OWN_TYPE {
        return Err(Error::DelegateItself);
    }
    if plugin_type == "bridge" {
        delegate.entry("isGateway").or_insert(true.into());
    }
    if !conf.cni_version.is_empty() {
        delegate.insert("cniVersion".into(), conf.cni_version.clone().into());
    }
    let mut parts: BTreeMap<_, _> = values(delegate);
    parts.insert("ipam".into(), Part::Ipam(ipam(conf, env)?));
    Ok(Delegate {
        plugin_type,
        config: json::marshal(&parts).into_bytes(),
    })
}

/// `delegate`, which must not have the keys that flannel sets, not even with `null`.
fn user_delegate(conf: &Conf) -> Result<Map<String, Value>, Error> {
    let delegate = conf.delegate.clone().unwrap_or_default();
    match delegate.get("type") {
        None | Some(Value::String(_)) => {}
        Some(_) => return Err(Error::DelegateType),
    }
    for key in ["name", "ipam"] {
        if delegate.contains_key(key) {
            return Err(Error::DelegateKey(key));
        }
    }
    Ok(delegate)
}

/// `ipam` with a range set for each subnet of the node and, after the user's routes, a route to
/// each network of the cluster.
fn ipam(conf: &Conf, env: Option<&SubnetEnv>) -> Result<BTreeMap<String, Part>, Error> {
    let mut ipam = conf.ipam.clone().unwrap_or_default();
    ipam.entry("type").or_insert("host-local".into());
    let mut routes = user_routes(&ipam)?;
    let mut parts = values(ipam);
    let Some(env) = env else { return Ok(parts) };
    let ranges: Vec<_> = [env.subnet, env.ipv6_subnet]
        .into_iter()
        .flatten()
        .map(|subnet| json!([{ "subnet": cidr::masked(subnet).to_string() }]))
        .collect();
    parts.insert("ranges".into(), Part::Value(ranges.into()));
    let to_cluster = |network: &IpNetwork| Route::new(*network, None);
    routes.extend(env.networks.iter().map(to_cluster));
    routes.extend(env.ipv6_networks.iter().map(to_cluster));
    parts.insert("routes".into(), Part::Routes(routes));
    Ok(parts)
}

fn user_routes(ipam: &Map<String, Value>) -> Result<Vec<Route>, Error> {
    match ipam.get("routes") {
        None => Ok(Vec::new()),
        Some(routes) => json::from_value(routes.clone()).map_err(Error::IpamRoutes),
    }
}

fn values(map: Map<String, Value>) -> BTreeMap<String, Part> {
    map.into_iter()
        .map(|(key, value)| (key, Part::Value(value)))
        .collect()
}

#[cfg(test)]
mod tests;
