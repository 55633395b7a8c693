//! Whose an ifb device is.
use cni_conf::GcAttachment;
use plugin::Call;
use sha2::{Digest, Sha512};
use std::fmt::Write;

/// How every device's name begins.
pub(crate) const PREFIX: &str = "bwp";

/// One attachment of one network.
#[derive(Debug, Clone)]
pub(crate) struct Owner<'a> {
    network: &'a str,
    container: &'a str,
    ifname: &'a str,
}

impl<'a> Owner<'a> {
    pub(crate) fn of_call(call: &'a Call) -> Owner<'a> {
        Owner {
            network: &call.net.name,
            container: &call.container_id,
            ifname: &call.ifname,
        }
    }

    pub(crate) fn of(network: &'a str, attachment: &'a GcAttachment) -> Owner<'a> {
        Owner {
            network,
            container: &attachment.container_id,
            ifname: &attachment.ifname,
        }
    }

    /// The device's name, upstream's: `bwp` and 12 hex digits. All interfaces that one container has in one network share it.
    pub(crate) fn ifb(&self) -> String {
        format!("{PREFIX}{}", hash(&[self.network, self.container], 12))
    }

    /// IFLA_IFALIAS of the device, which tells GC whose it is: the name itself cannot be read backwards. At most 255 bytes.
    pub(crate) fn alias(&self) -> String {
        format!(
            "{}{} {}",
            alias_prefix(self.network),
            bounded(self.container, 128),
            self.ifname
        )
    }
}

/// How the alias of every device of a network begins.
pub(crate) fn alias_prefix(network: &str) -> String {
    format!("cni-bandwidth {} ", bounded(network, 64))
}

/// The text, or `#` and a hash of it where it is too long. `#` cannot stand in an id or a name.
fn bounded(text: &str, limit: usize) -> String {
    match text.len() <= limit {
        true => text.into(),
        false => format!("#{}", hash(&[text], 32)),
    }
}

/// The first hex digits of the SHA-512 of all parts, one after the other.
fn hash(parts: &[&str], digits: usize) -> String {
    let mut hex = String::new();
    for byte in Sha512::digest(parts.concat()).iter().take(digits / 2) {
        write!(hex, "{byte:02x}").ok();
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let owner = Owner {
            network: "net",
            container: "c1",
            ifname: "eth0",
        };
        // printf netc1 | sha512sum
        assert_eq!(owner.ifb(), "bwp623e1c388032");
        assert_eq!(owner.alias(), "cni-bandwidth net c1 eth0");
        let long = Owner {
            network: &"n".repeat(300),
            container: &"c".repeat(300),
            ifname: "interface-name1",
        };
        assert!(long.alias().len() < 256 && long.ifb().len() == 15);
    }
}
