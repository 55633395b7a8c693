//! STATUS: whether the next ADD can work.

use crate::{Error, conf::Conf, derive::derive, subnet_file};
use cni_conf::Code;
use plugin::{Call, Verb, delegate::delegate};

/// Code 50 while subnet.env is missing or not complete: a node becomes ready when it can run pods.
/// Then the answer of the delegate.
pub(crate) fn status(call: &Call) -> Result<(), Error> {
    let conf = Conf::of(call)?;
    let env = subnet_file::read(&conf.subnet_file).map_err(|error| {
        let error = Error::from(error);
        cni_conf::Error::new(Code::NotAvailable, error.to_string())
    })?;
    let derived = derive(&conf, Some(&env))?;
    delegate(call, &derived.plugin_type, Verb::Status, &derived.config)?;
    Ok(())
}
