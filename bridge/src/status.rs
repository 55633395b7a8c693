//! STATUS: an ADD can work.

use crate::{Error, conf::Settings, device::lookup, error::Context};
use cni_conf::Code;
use linux_net::{Netlink, link::Kind};
use plugin::{Call, Verb, delegate};

/// The configuration is valid, no other kind of link has the bridge's name, and IPAM has an
/// address.
pub(crate) fn status(call: &Call) -> Result<(), Error> {
    let name = Settings::of(call)?.bridge;
    let mut host = Netlink::open().context("failed to open a netlink socket")?;
    let link = lookup(&mut host, &name)?;
    if link.is_some_and(|link| !matches!(link.kind, Kind::Bridge { .. })) {
        let message = format!("{name:?} already exists but is not a bridge");
        let remedy = format!(
            "rename or remove that interface, or give the bridge another name by \"bridge\": ip link show {name}"
        );
        return Err(cni_conf::Error::new(Code::NotAvailable, message)
            .details(remedy)
            .into());
    }
    Ok(delegate::ipam(call, Verb::Status)?)
}
