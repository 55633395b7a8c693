//! GC: the delegates remove what no valid attachment owns, then the state files go too.

use crate::{
    Error,
    conf::Conf,
    derive::{Delegate, derive},
    state::{self, Entry},
    subnet_file,
};
use cni_conf::GcAttachment;
use plugin::{
    Call, Verb,
    delegate::{Failure, delegate},
    warn,
};
use serde_json::{Value, json};

/// Calls GC of each delegate that the network has or had, then removes the state files of invalid
/// attachments. Files of other networks, and files that name no network, stay. An error of one
/// delegate does not stop the others; the first one is returned, and the state files of that
/// delegate stay. A delegate of the past that cannot be executed has nothing to remove.
pub(crate) fn gc(call: &Call) -> Result<(), Error> {
    let Some(valid) = &call.net.valid_attachments else {
        return Ok(());
    };
    let conf = Conf::of(call)?;
    let (entries, saved): (Vec<Entry>, Vec<Delegate>) = state::list(conf.data_dir())?
        .into_iter()
        .filter_map(|entry| entry.delegate().map(|delegate| (entry, delegate)))
        .filter(|(_, delegate)| delegate.is_of_network(&conf.name))
        .unzip();
    let current = derive(&conf, subnet_file::read(&conf.subnet_file).ok().as_ref())?;
    let current_type = current.plugin_type.clone();
    let types: Vec<String> = saved.iter().map(|one| one.plugin_type.clone()).collect();
    let mut failed: Vec<(String, Error)> = Vec::new();
    for one in distinct(saved, current) {
        let was_itself = one.is_itself();
        let Delegate {
            plugin_type,
            config,
        } = with_valid(call, one, valid);
        let collected = match was_itself {
            true => Err(Failure::NotExecutable(Error::DelegateItself.into())),
            false => delegate(call, &plugin_type, Verb::Gc, &config),
        };
        let Err(failure) = collected else { continue };
        warn(format_args!("flannel: GC of {plugin_type}: {failure}"));
        let is_past = plugin_type != current_type;
        if matches!(failure, Failure::Failed(_)) || !is_past {
            failed.push((plugin_type, failure.into()));
        }
    }
    for (entry, plugin_type) in entries.iter().zip(&types) {
        let is_clean = failed.iter().all(|(failed, _)| failed != plugin_type);
        if is_clean && !is_valid(entry, valid) {
            entry.remove()?;
        }
    }
    match failed.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn is_valid(entry: &Entry, valid: &[GcAttachment]) -> bool {
    let is_ifname = |name: &str| entry.ifname.as_deref().is_none_or(|ifname| ifname == name);
    valid
        .iter()
        .any(|one| one.container_id == entry.container_id && is_ifname(&one.ifname))
}

/// The delegates that differ in more than the keys of one pod.
fn distinct(saved: Vec<Delegate>, current: Delegate) -> Vec<Delegate> {
    let mut delegates = vec![current.without("runtimeConfig")];
    for one in saved {
        let one = one.without("runtimeConfig");
        if !delegates.contains(&one) {
            delegates.push(one);
        }
    }
    delegates
}

/// With the list under both of its names, in the version of the call: an older one has no GC.
fn with_valid(call: &Call, delegate: Delegate, valid: &[GcAttachment]) -> Delegate {
    let valid = json!(valid);
    delegate.with([
        ("cniVersion", Value::from(call.net.version.as_str())),
        ("cni.dev/valid-attachments", valid.clone()),
        ("cni.dev/attachments", valid),
    ])
}
