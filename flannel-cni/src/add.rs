//! ADD: derives the delegate's configuration, saves it, delegates.

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

/// Returns the delegate's stdout. After a failure of the delegate, calls its DEL (CNI spec section
/// 4), unless it has not run, and removes the state file.
pub(crate) fn add(call: &Call) -> Result<Vec<u8>, Error> {
    let conf = Conf::of(call)?;
    // an invalid configuration is an error before subnet.env is waited for
    derive(&conf, None)?;
    let env = subnet_file::wait(&conf.subnet_file)?;
    let derived = derive(&conf, Some(&env))?;
    let state = State::new(conf.data_dir(), &call.container_id, &call.ifname);
    let earlier = state.load()?;
    // before the delegate acts: DEL can call it even if this process is killed
    state.save(&derived)?;
    delegate(call, &derived.plugin_type, Verb::Add, &derived.config).map_err(|failure| {
        let has_run = matches!(failure, Failure::Failed(_));
        if let Err(error) = undo(call, &state, has_run.then_some(&derived), earlier) {
            warn(format_args!(
                "flannel: cleaning up after a failed ADD: {error}"
            ));
        }
        Error::from(failure)
    })
}

/// An attachment that was there before stays: it may be the reason for the failure.
fn undo(
    call: &Call,
    state: &State,
    has_run: Option<&Delegate>,
    earlier: Saved,
) -> Result<(), Error> {
    match earlier {
        Saved::Delegate(earlier) => state.save(&earlier),
        Saved::Damaged => Ok(()),
        Saved::Nothing => {
            if let Some(derived) = has_run {
                delegate(call, &derived.plugin_type, Verb::Del, &derived.config)?;
            }
            state.remove()
        }
    }
}
