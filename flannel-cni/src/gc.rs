//! GC: the delegates keep the valid attachments alone, and so do the state files.
use crate::{
    Error,
    conf::Conf,
    derive::{Delegate, derive},
    state::{self, Listed},
    subnet_file,
};
use cni_conf::GcAttachment;
use plugin::{Call, Verb, delegate::delegate, warn};
use serde_json::{Value, json};

/// Asks each delegate that this network has or had, then forgets whom the runtime does not know.
/// State files of other networks, and those that do not tell whose they are, stay. Whatever fails,
/// the rest is done; the first error is told, and then nothing is forgotten.
pub fn gc(call: &Call) -> Result<(), Error> {
    let Some(valid) = &call.net.valid_attachments else {
        return Ok(());
    };
    let conf = Conf::of(call)?;
    let (listed, saved): (Vec<Listed>, Vec<Delegate>) = state::list(conf.data_dir())?
        .into_iter()
        .filter_map(|one| one.delegate().map(|delegate| (one, delegate)))
        .filter(|(_, delegate)| delegate.is_of_network(&conf.name))
        .unzip();
    let now = subnet_file::read(&conf.subnet_file)
        .and_then(|env| derive(&conf, Some(&env)))
        .or_else(|_| derive(&conf, None))?;
    let mut failed = None;
    for one in distinct(saved, now) {
        let asked = asked(call, one, valid);
        if let Err(error) = delegate(call, &asked.plugin_type, Verb::Gc, &asked.config) {
            warn(format_args!(
                "flannel: GC of {}: {error}",
                asked.plugin_type
            ));
            failed.get_or_insert(error);
        }
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    listed
        .iter()
        .filter(|one| !is_valid(one, valid))
        .try_for_each(Listed::remove)
}

fn is_valid(one: &Listed, valid: &[GcAttachment]) -> bool {
    valid.iter().any(|attachment| {
        attachment.container_id == one.container_id
            && one
                .ifname
                .as_ref()
                .is_none_or(|ifname| *ifname == attachment.ifname)
    })
}

/// The delegates that differ in more than what was one pod's alone.
fn distinct(saved: Vec<Delegate>, now: Delegate) -> Vec<Delegate> {
    let mut delegates = vec![now.without("runtimeConfig")];
    for one in saved {
        let one = one.without("runtimeConfig");
        if !delegates.contains(&one) {
            delegates.push(one);
        }
    }
    delegates
}

/// As the runtime asks: under both names of the list, and in the version in which GC exists.
fn asked(call: &Call, delegate: Delegate, valid: &[GcAttachment]) -> Delegate {
    let valid = json!(valid);
    delegate.with([
        ("cniVersion", Value::from(call.net.version.as_str())),
        ("cni.dev/valid-attachments", valid.clone()),
        ("cni.dev/attachments", valid),
    ])
}
