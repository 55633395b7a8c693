//! DEL: passes the delegate the configuration of ADD.

use crate::{
    Error,
    conf::Conf,
    derive::{Delegate, derive},
    state::{Saved, State},
    subnet_file,
};
use plugin::{
    Call, Verb,
    delegate::{Failure, delegate},
    warn,
};

/// Needs neither subnet.env nor an unchanged configuration. Removes the state file only after the
/// delegate has succeeded. Without a state file the delegate is not called: ADD writes it first.
pub(crate) fn del(call: &Call) -> Result<(), Error> {
    let conf = Conf::of(call)?;
    let state = State::new(conf.data_dir(), &call.container_id, &call.ifname);
    match state.load()? {
        Saved::Nothing => {}
        Saved::Delegate(saved) => {
            let deleted = match saved.is_itself() {
                true => Err(Failure::NotExecutable(Error::DelegateItself.into())),
                false => run(call, &saved),
            };
            match deleted {
                Err(Failure::NotExecutable(error)) => with_current(call, &conf, &saved, &error)?,
                deleted => deleted?,
            }
        }
        Saved::Damaged => {
            warn(format_args!(
                "flannel: {} is damaged; the delegate gets what is derived from the configuration now",
                state.path().display()
            ));
            run(call, &current(&conf)?)?;
        }
    }
    state.remove()
}

/// The saved delegate cannot be executed, so it has made nothing, or its program was removed since.
/// The configuration may name another one by now, which finds what is left by the attachment's
/// names.
fn with_current(
    call: &Call,
    conf: &Conf,
    saved: &Delegate,
    error: &cni_conf::Error,
) -> Result<(), Error> {
    warn(format_args!(
        "flannel: delegate {:?} of container {} cannot be executed: {error}",
        saved.plugin_type, call.container_id
    ));
    let current = current(conf)?;
    let deleted = match current.plugin_type == saved.plugin_type {
        // at least its address, in case that the program was removed since
        true => run(call, &saved.ipam()),
        false => run(call, &current),
    };
    match deleted {
        Err(Failure::NotExecutable(_)) => Ok(()),
        deleted => Ok(deleted?),
    }
}

/// What the configuration names now; the default delegate if its `delegate` or `ipam` is invalid.
fn current(conf: &Conf) -> Result<Delegate, Error> {
    let env = subnet_file::read(&conf.subnet_file).ok();
    match derive(conf, env.as_ref()) {
        Err(error) if !matches!(error, Error::DelegateItself) => {
            warn(format_args!("flannel: {error}"));
            let defaults = Conf {
                delegate: None,
                ipam: None,
                ..conf.clone()
            };
            derive(&defaults, env.as_ref())
        }
        derived => derived,
    }
}

fn run(call: &Call, delegated: &Delegate) -> Result<(), Failure> {
    delegate(call, &delegated.plugin_type, Verb::Del, &delegated.config).map(drop)
}
