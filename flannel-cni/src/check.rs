//! CHECK: passes the delegate the configuration of ADD with the result of the chain.

use crate::{
    Error,
    conf::Conf,
    derive::Delegate,
    state::{Saved, State},
};
use plugin::{Call, Verb, delegate::delegate};
use serde_json::Value;

/// prevResult has the shape of the current configuration's version, so the delegate gets that
/// version with it.
pub(crate) fn check(call: &Call) -> Result<(), Error> {
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
    let Delegate {
        plugin_type,
        config,
    } = saved.with([
        ("cniVersion", Value::from(call.net.version.as_str())),
        ("prevResult", conf.prev_result.unwrap_or_default()),
    ]);
    delegate(call, &plugin_type, Verb::Check, &config)?;
    Ok(())
}
