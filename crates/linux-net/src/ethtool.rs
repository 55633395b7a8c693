//! Offloads and drivers of links (linux/ethtool.h, the ioctl SIOCETHTOOL), as `ethtool -k`, `-K`
//! and `-i` show and set them.

use crate::{Error, Result};
use nix::{
    libc::{self, IFNAMSIZ},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use std::os::fd::{AsRawFd, OwnedFd};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// A socket of a network namespace.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// version, firmware, bus and sizes
    _rest: [u8; 160],
}

#[allow(unsafe_code, reason = "ioctl(2) has no safe form")]
mod ioctl {
    use super::{DriverInfo, Value};
    use nix::{
        errno::Errno,
        libc::{self, c_int, ioctl},
    };

    /// SIOCETHTOOL (linux/sockios.h)
    const SIOCETHTOOL: libc::Ioctl = 0x8946;

    /// `struct ifreq` with the pointer that the command needs.
    #[repr(C)]
    struct Request<T> {
        name: [u8; libc::IFNAMSIZ],
        argument: *mut T,
        _rest: [u8; 16],
    }

    pub(super) fn value(
        socket: c_int,
        name: [u8; libc::IFNAMSIZ],
        value: &mut Value,
    ) -> nix::Result<c_int> {
        call(socket, name, value)
    }

    pub(super) fn driver(
        socket: c_int,
        name: [u8; libc::IFNAMSIZ],
        info: &mut DriverInfo,
    ) -> nix::Result<c_int> {
        call(socket, name, info)
    }

    fn call<T>(socket: c_int, name: [u8; libc::IFNAMSIZ], argument: &mut T) -> nix::Result<c_int> {
        let mut request = Request {
            name,
            argument: std::ptr::from_mut(argument),
            _rest: [0; 16],
        };
        // SAFETY: `request` has the layout of struct ifreq and at least its size; `argument` is the
        // structure of its command, and both outlive the call
        Errno::result(unsafe { ioctl(socket, SIOCETHTOOL, std::ptr::from_mut(&mut request)) })
    }
}

impl Ethtool {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Ethtool> {
        let socket = socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        let socket = socket.map_err(|error| Error::io("open a socket for SIOCETHTOOL", error))?;
        Ok(Ethtool { socket })
    }

    /// True if the kernel leaves checksums of sent packets to the device: any of the features
    /// `tx-checksum-*`.
    pub fn tx_checksum(&self, link: &str) -> Result<bool> {
        let mut value = Value {
            command: ETHTOOL_GTXCSUM,
            data: 0,
        };
        self.call(link, "read the checksum offload of", |socket, name| {
            ioctl::value(socket, name, &mut value)
        })?;
        Ok(value.data != 0)
    }

    /// Switches all of them that the device has (`ethtool -K LINK tx on|off`). A vxlan device has
    /// `tx-checksum-ip-generic`.
    pub fn set_tx_checksum(&self, link: &str, on: bool) -> Result<()> {
        let mut value = Value {
            command: ETHTOOL_STXCSUM,
            data: on.into(),
        };
        self.call(link, "switch the checksum offload of", |socket, name| {
            ioctl::value(socket, name, &mut value)
        })
    }

    /// The name of the driver: "vmxnet3", "virtio_net", "veth".
    pub fn driver(&self, link: &str) -> Result<String> {
        let mut info = DriverInfo {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            _rest: [0; 160],
        };
        self.call(link, "read the driver of", |socket, name| {
            ioctl::driver(socket, name, &mut info)
        })?;
        let name = info.driver.split(|byte| *byte == 0).next();
        Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
    }

    fn call(
        &self,
        link: &str,
        what: &str,
        call: impl FnOnce(libc::c_int, [u8; IFNAMSIZ]) -> nix::Result<libc::c_int>,
    ) -> Result<()> {
        let failed = |error: nix::errno::Errno| Error::io(format!("{what} {link}"), error);
        let mut name = [0; IFNAMSIZ];
        if link.len() >= IFNAMSIZ {
            return Err(failed(nix::errno::Errno::ENODEV));
        }
        name[..link.len()].copy_from_slice(link.as_bytes());
        call(self.socket.as_raw_fd(), name).map_err(failed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Value>(), 8);
        assert_eq!(size_of::<DriverInfo>(), 196);
    }

    #[test]
    fn missing_link_is_absent() {
        let ethtool = Ethtool::open().unwrap();
        for name in ["no-such-link", "", "a-name-that-is-too-long"] {
            for result in [
                ethtool.tx_checksum(name).map(drop),
                ethtool.set_tx_checksum(name, true),
                ethtool.driver(name).map(drop),
            ] {
                assert!(result.unwrap_err().is_absent(), "{name}");
            }
        }
    }
}
