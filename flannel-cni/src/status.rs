//! STATUS: whether the next ADD can work.
use crate::{Error, conf::Conf, derive::derive, subnet_file};
use cni_conf::Code;
use plugin::{Call, Verb, delegate::delegate};

/// Code 50 while subnet.env is missing or broken, so that a node is not ready before it can have
/// pods; else what the delegate says.
pub fn status(call: &Call) -> Result<(), Error> {
    let conf = Conf::of(call)?;
    let env = subnet_file::read(&conf.subnet_file)
        .map_err(|error| cni_conf::Error::new(Code::NotAvailable, error.to_string()))?;
    let derived = derive(&conf, Some(&env))?;
    delegate(call, &derived.plugin_type, Verb::Status, &derived.config)?;
    Ok(())
}
