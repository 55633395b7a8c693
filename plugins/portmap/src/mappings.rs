//! The mappings of one attachment to one container address.

use crate::{conf::Conf, forward::Forward, holder::Container};
use ipnetwork::IpNetwork;
use plugin::Attachment;

#[derive(Debug)]
pub(crate) struct Mappings<'a> {
    pub(crate) owner: &'a Attachment,
    pub(crate) conf: &'a Conf,
    /// the container's address, with the prefix length of its subnet
    pub(crate) address: IpNetwork,
    pub(crate) forwards: Vec<Forward>,
    /// the container, against which other holders of the host ports are judged
    pub(crate) container: &'a Container,
}

impl<'a> Mappings<'a> {
    pub(crate) fn new(
        owner: &'a Attachment,
        conf: &'a Conf,
        address: IpNetwork,
        container: &'a Container,
    ) -> Self {
        Mappings {
            owner,
            conf,
            address,
            forwards: conf.forwards(address.ip()),
            container,
        }
    }

    pub(crate) fn ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    pub(crate) fn conditions(&self) -> &[String] {
        self.conf.conditions(self.ipv6())
    }
}
