//! DEL: passes the delegate the configuration of ADD.

use crate::{
    Error,
    conf::Conf,
    derive::derive,
    state::{Saved, State},
    subnet_file,
};
use plugin::{Call, Verb, delegate::delegate, warn};

/// Needs neither subnet.env nor an unchanged configuration. Removes the state file only after the
/// delegate has succeeded. Without a state file the delegate is not called: ADD writes it first.
pub(crate) fn del(call: &Call) -> Result<(), Error> {
    let conf = Conf::of(call)?;
    let state = State::new(conf.data_dir(), &call.container_id, &call.ifname);
    let saved = match state.load()? {
        Saved::Nothing => return state.remove(),
        Saved::Delegate(saved) => saved,
        Saved::Damaged => {
            warn(format_args!(
                "flannel: {} is damaged; the delegate gets what is derived from the configuration now",
                state.path().display()
            ));
            derive(&conf, subnet_file::read(&conf.subnet_file).ok().as_ref())?
        }
    };
    delegate(call, &saved.plugin_type, Verb::Del, &saved.config)?;
    state.remove()
}
