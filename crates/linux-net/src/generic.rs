//! Generic netlink: families of messages that the kernel numbers when it registers them
//! (linux/genetlink.h).

use crate::{
    NetNs, Request, Result,
    netlink::{Attributes, Client, Malformed, Mode, NETLINK_GENERIC, Read, header},
};
use netlink_packet_core::Emitable;
use netlink_packet_generic::{
    GenlFamily, GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use std::{collections::BTreeMap, fmt::Debug};

/// CTRL_ATTR_FAMILY_ID
const FAMILY_ID: u16 = 1;
/// Numbers below it are of netlink itself (linux/genetlink.h GENL_MIN_ID).
const MIN_ID: u16 = 0x10;
/// Length of `struct genlmsghdr`.
const HEADER: usize = 4;

/// The NETLINK_GENERIC socket. The module of each family adds its requests.
#[derive(Debug)]
pub(crate) struct Generic {
    pub(crate) client: Client,
    families: BTreeMap<&'static str, u16>,
}

impl Generic {
    /// Opens it in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self::of(Client::open(NETLINK_GENERIC)?))
    }

    /// Opens it in another namespace.
    pub(crate) fn open_in(ns: &NetNs) -> Result<Self> {
        Ok(Self::of(Client::open_in(NETLINK_GENERIC, ns)?))
    }

    fn of(client: Client) -> Self {
        Self {
            client,
            families: BTreeMap::new(),
        }
    }

    /// The number of a family: the kernel is asked once, and loads the module of the family if it
    /// has one. The error [`is_absent`](crate::Error::is_absent) where it has none.
    pub(crate) fn family(&mut self, name: &'static str) -> Result<u16> {
        if let Some(number) = self.families.get(name) {
            return Ok(*number);
        }
        let number = self
            .client
            .get(&family_request(name), |_, payload| family_number(payload))?;
        self.families.insert(name, number);
        Ok(number)
    }
}

/// CTRL_CMD_GETFAMILY
fn family_request(name: &str) -> Request {
    let ask = GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())],
    };
    let number = ask.family_id();
    let what = format!("find the kernel's generic netlink family {name}");
    request(number, Mode::Existing, ask, what)
}

/// A request of the family with that number. `what` begins the texts of its errors.
pub(crate) fn request<F>(family: u16, mode: Mode, message: F, what: impl Into<String>) -> Request
where
    F: GenlFamily + Emitable + Debug,
{
    Request::new(family, mode, &GenlMessage::from_payload(message), what)
}

/// What follows `struct genlmsghdr`.
pub(crate) fn body(payload: &[u8]) -> Read<&[u8]> {
    header::<HEADER>(payload).map(|(_, body)| body)
}

fn family_number(payload: &[u8]) -> Read<u16> {
    let value = Attributes::new(body(payload)?).get(FAMILY_ID);
    let number = value.and_then(|value| Some(u16::from_ne_bytes(value.try_into().ok()?)));
    number
        .filter(|number| *number >= MIN_ID)
        .ok_or_else(|| Malformed("no family number".into()))
}

/// The fuzz target's part: any answer of the controller.
pub(crate) fn fuzz(payload: &[u8]) {
    if let Ok(number) = family_number(payload) {
        assert!(number >= MIN_ID);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_is_asked_for_by_its_name() {
        let request = family_request("wireguard");
        // CTRL_CMD_GETFAMILY of version 2, CTRL_ATTR_FAMILY_NAME
        let expected = b"\x03\x02\0\0\x0e\0\x02\0wireguard\0\0\0";
        assert_eq!(request.body(), expected);
    }

    #[test]
    fn number_is_read_behind_the_name() {
        let mut answer = b"\x01\x02\0\0".to_vec();
        answer.extend(b"\x0e\0\x02\0wireguard\0\0\0");
        assert!(family_number(&answer).is_err());
        answer.extend(b"\x06\0\x01\0");
        let mut reserved = answer.clone();
        answer.extend(33u16.to_ne_bytes());
        answer.extend([0, 0]);
        assert_eq!(family_number(&answer), Ok(33));
        reserved.extend([3, 0, 0, 0]);
        assert!(
            family_number(&reserved).is_err(),
            "a number of netlink's own"
        );
        assert!(family_number(&answer[..3]).is_err());
    }

    #[test]
    fn family_of_this_kernel_is_found_and_cached() {
        let mut generic = Generic::open().unwrap();
        // the controller itself is a family with a fixed number
        assert_eq!(generic.family("nlctrl").unwrap(), 0x10);
        assert_eq!(generic.families["nlctrl"], 0x10);
        assert_eq!(generic.family("nlctrl").unwrap(), 0x10);
        let error = generic.family("no-such-family").unwrap_err();
        assert!(error.is_absent(), "{error}");
        assert!(error.to_string().contains("no-such-family"), "{error}");
    }
}
