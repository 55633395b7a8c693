//! STATUS: Ok means that the next ADD can work.
use crate::{Error, conf::Settings, error::Step};
use cni_conf::Code;
use linux_net::{Netlink, link::Kind};
use plugin::{Call, Verb, delegate};

/// The configuration is valid, nothing else has the bridge's name, and IPAM can give an address.
pub fn status(call: &Call) -> Result<(), Error> {
    let settings = Settings::of(call)?;
    let mut host = Netlink::open().step("failed to open a netlink socket")?;
    let link = host
        .link_by_name(&settings.bridge)
        .step(format!("failed to lookup {:?}", settings.bridge))?;
    if let Some(link) = link
        && !matches!(link.kind, Kind::Bridge { .. })
    {
        let message = format!("{:?} already exists but is not a bridge", settings.bridge);
        let way_out = format!(
            "rename or remove that interface, or give the bridge another name by \"bridge\": ip link show {}",
            settings.bridge
        );
        return Err(cni_conf::Error::new(Code::NotAvailable, message)
            .details(way_out)
            .into());
    }
    Ok(delegate::ipam(call, Verb::Status)?)
}
