//! DEL: the delegate gets what it got at ADD.
use crate::{
    Error,
    conf::Conf,
    derive::derive,
    state::{Saved, State},
    subnet_file,
};
use plugin::{Call, Verb, delegate::delegate, warn};

/// Needs neither subnet.env nor an unchanged configuration, and forgets the attachment only when
/// the delegate has succeeded. Without a state file there is nothing to do but to take away an
/// unfinished one: ADD writes it before anything else.
pub fn del(call: &Call) -> Result<(), Error> {
    let conf = Conf::of(call)?;
    let state = State::new(conf.data_dir(), &call.container_id, &call.ifname);
    let saved = match state.load()? {
        Saved::Nothing => return state.remove(),
        Saved::Delegate(saved) => saved,
        Saved::Damaged => {
            warn(format_args!(
                "flannel: {} is damaged; deleting by what the configuration says now",
                state.path().display()
            ));
            derive(&conf, subnet_file::read(&conf.subnet_file).ok().as_ref())?
        }
    };
    delegate(call, &saved.plugin_type, Verb::Del, &saved.config)?;
    state.remove()
}
