//! ADD: derive, remember, delegate.
use crate::{
    Error,
    conf::Conf,
    derive::{Delegate, derive},
    state::{Saved, State},
    subnet_file,
};
use plugin::{Call, Verb, delegate::delegate, warn};

/// The delegate's own output. A delegate that fails is told to DEL at once (CNI spec section 4) and
/// forgotten.
pub fn add(call: &Call) -> Result<Vec<u8>, Error> {
    let conf = Conf::of(call)?;
    // what no subnet.env can mend is told without waiting for one
    derive(&conf, None)?;
    let env = subnet_file::wait(&conf.subnet_file)?;
    let derived = derive(&conf, Some(&env))?;
    let state = State::new(conf.data_dir(), &call.container_id, &call.ifname);
    let earlier = state.load()?;
    // before the delegate does anything: whatever happens to this process, DEL knows whom to ask
    state.save(&derived)?;
    delegate(call, &derived.plugin_type, Verb::Add, &derived.config).map_err(|error| {
        if let Err(error) = take_back(call, &state, &derived, earlier) {
            warn(format_args!(
                "flannel: cleaning up after a failed ADD: {error}"
            ));
        }
        Error::Cni(error)
    })
}

/// Where this very attachment was there before, it is not ours to take away: an ADD that fails
/// because of it has to leave it alone.
fn take_back(call: &Call, state: &State, derived: &Delegate, earlier: Saved) -> Result<(), Error> {
    match earlier {
        Saved::Delegate(earlier) => state.save(&earlier),
        Saved::Damaged => Ok(()),
        Saved::Nothing => {
            delegate(call, &derived.plugin_type, Verb::Del, &derived.config)?;
            state.remove()
        }
    }
}
