//! Runs one verb of a plugin in this process: for its own frame and for delegation.

use crate::{AddOutput, Call, Plugin, Verb};
use cni_conf::{Code, Error, Version};
use std::os::unix::fs::MetadataExt;

/// The bytes for stdout, empty for all verbs but ADD and VERSION.
///
/// A CNI_NETNS that is the plugin's own namespace is code 8. ADD then does nothing. DEL cleans up
/// as if the namespace were gone and touches no interface: the path was another namespace at ADD
/// (`/proc/PID/ns/net` of a process that ended).
pub(crate) fn invoke(plugin: &dyn Plugin, call: &Call) -> Result<Vec<u8>, Error> {
    match call.verb {
        Verb::Add if is_own_netns(call) => return Err(own_netns()),
        Verb::Add => match plugin.add(call)? {
            AddOutput::Result(result) => {
                return Ok(result.to_json(call.net.version)?.into_bytes());
            }
            AddOutput::Raw(stdout) => return Ok(stdout),
        },
        Verb::Del if is_own_netns(call) => {
            plugin.del(&call.without_netns())?;
            return Err(own_netns());
        }
        Verb::Check => plugin.check(call)?,
        Verb::Del => plugin.del(call)?,
        Verb::Gc => plugin.gc(call)?,
        Verb::Status => plugin.status(call)?,
        Verb::Version => return Ok(versions(plugin)),
    }
    Ok(Vec::new())
}

/// The answer to VERSION, compact and with a newline as upstream's.
pub(crate) fn versions(plugin: &dyn Plugin) -> Vec<u8> {
    let quoted: Vec<_> = plugin
        .versions()
        .iter()
        .map(|version| format!("{:?}", version.as_str()))
        .collect();
    format!(
        "{{\"cniVersion\":\"{}\",\"supportedVersions\":[{}]}}\n",
        Version::CURRENT.as_str(),
        quoted.join(",")
    )
    .into_bytes()
}

/// True if CNI_NETNS is the namespace of the plugin itself and CNI_NETNS_OVERRIDE does not allow
/// that. The verb reports a path that does not exist.
fn is_own_netns(call: &Call) -> bool {
    if call.netns.is_empty() || call.environment.overrides_netns() {
        return false;
    }
    let identity = |path: &str| std::fs::metadata(path).map(|stat| (stat.dev(), stat.ino()));
    match (identity(&call.netns), identity("/proc/thread-self/ns/net")) {
        (Ok(container), Ok(own)) => container == own,
        _ => false,
    }
}

fn own_netns() -> Error {
    Error::new(
        Code::InvalidNetNs,
        "plugin's netns and netns from CNI_NETNS should not be the same",
    )
}
