//! CHECK: the delegate checks what it was given at ADD against the result of the chain.
use crate::{
    Error,
    conf::Conf,
    state::{Saved, State},
};
use plugin::{Call, Verb, delegate::delegate};
use serde_json::Value;

/// prevResult has the shape of the configuration's version now, so the delegate is given that
/// version with it.
pub fn check(call: &Call) -> Result<(), Error> {
    let conf = Conf::of(call)?;
    call.prev_result()?;
    let state = State::new(conf.data_dir(), &call.container_id, &call.ifname);
    let Saved::Delegate(saved) = state.load()? else {
        return Err(Error::NoState {
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            path: state.path().to_owned(),
        });
    };
    let with_result = saved.with([
        ("cniVersion", Value::from(call.net.version.as_str())),
        ("prevResult", conf.prev_result.unwrap_or_default()),
    ]);
    delegate(
        call,
        &with_result.plugin_type,
        Verb::Check,
        &with_result.config,
    )?;
    Ok(())
}
