//! TUN devices: IP packets that the kernel routes to a device are read by a process, and the other
//! way round (Documentation/networking/tuntap.rst, linux/if_tun.h).

use crate::{Error, Result};
use nix::{errno::Errno, libc};
use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

/// Where the kernel gives queues out.
const CLONE_DEVICE: &str = "/dev/net/tun";
/// IFNAMSIZ without the final zero.
const NAME_MAX: usize = 15;
/// The header before each packet: `struct virtio_net_hdr` without the count of merged buffers, in
/// bytes.
pub const VNET_HEADER: usize = 10;

/// Packets of the device are IP packets.
const IFF_TUN: libc::c_short = 0x0001;
/// Several queues.
const IFF_MULTI_QUEUE: libc::c_short = 0x0100;
/// No `struct tun_pi` before each packet.
const IFF_NO_PI: libc::c_short = 0x1000;
/// A `struct virtio_net_hdr` before each packet.
const IFF_VNET_HDR: libc::c_short = 0x4000;

/// Checksums may be left to the reader.
const TUN_F_CSUM: libc::c_uint = 0x01;
/// Packets may be TCP over IPv4, longer than the MTU.
const TUN_F_TSO4: libc::c_uint = 0x02;
/// The same over IPv6.
const TUN_F_TSO6: libc::c_uint = 0x04;
/// UDP over IPv4, since Linux 6.2.
const TUN_F_USO4: libc::c_uint = 0x20;
/// UDP over IPv6.
const TUN_F_USO6: libc::c_uint = 0x40;

/// `struct ifreq` as TUNSETIFF reads it: a name, flags, padding.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: libc::c_short,
    _rest: [u8; 22],
}

#[allow(unsafe_code, reason = "ioctl(2) has no safe form")]
mod ioctl {
    use super::InterfaceRequest;
    use nix::{
        errno::Errno,
        libc::{c_int, c_uint, c_ulong, ioctl},
        request_code_read, request_code_write,
    };

    /// The size of the argument in the numbers of linux/if_tun.h, whatever the kernel reads.
    const INT: usize = size_of::<c_int>();

    /// TUNSETIFF: attaches the queue to the device of that name, which is made if there is none.
    pub(super) fn attach(queue: c_int, request: &mut InterfaceRequest) -> nix::Result<c_int> {
        with_request(queue, request_code_write!(b'T', 202, INT), request)
    }

    /// TUNGETIFF: the name of the queue's device, and the flags.
    pub(super) fn device(queue: c_int, request: &mut InterfaceRequest) -> nix::Result<c_int> {
        with_request(queue, request_code_read!(b'T', 210, INT), request)
    }

    fn with_request(
        queue: c_int,
        code: c_ulong,
        request: &mut InterfaceRequest,
    ) -> nix::Result<c_int> {
        // SAFETY: `request` has the layout and the size of struct ifreq, and outlives the call
        Errno::result(unsafe { ioctl(queue, code, std::ptr::from_mut(request)) })
    }

    /// TUNSETPERSIST: whether the device stays when its last queue is closed.
    pub(super) fn persist(queue: c_int, on: bool) -> nix::Result<c_int> {
        let on = c_ulong::from(on);
        // SAFETY: the kernel takes the argument as a number
        Errno::result(unsafe { ioctl(queue, request_code_write!(b'T', 203, INT), on) })
    }

    /// TUNSETVNETHDRSZ.
    pub(super) fn header_length(queue: c_int, length: &c_int) -> nix::Result<c_int> {
        // SAFETY: the kernel reads one int, which outlives the call
        Errno::result(unsafe {
            ioctl(
                queue,
                request_code_write!(b'T', 216, INT),
                std::ptr::from_ref(length),
            )
        })
    }

    /// TUNSETOFFLOAD.
    pub(super) fn offload(queue: c_int, flags: c_uint) -> nix::Result<c_int> {
        // SAFETY: the kernel takes the argument as a number
        Errno::result(unsafe {
            ioctl(
                queue,
                request_code_write!(b'T', 208, INT),
                c_ulong::from(flags),
            )
        })
    }
}

/// What the kernel leaves to the reader of a device, and accepts from its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// TCP packets longer than the MTU.
    pub tcp: bool,
    /// UDP packets longer than the MTU, since Linux 6.2.
    pub udp: bool,
}

/// Makes a persistent TUN device with several queues, without one attached: its packets wait until
/// a process attaches a queue. A device of that name that is such a TUN device stays as it is.
pub fn create(name: &str) -> Result<()> {
    let queue = attach(name)?;
    ioctl::persist(queue.as_raw_fd(), true)
        .map_err(|error| Error::io(format!("keep TUN device {name}"), error))?;
    Ok(())
}

/// Opens a queue of the device, in non-blocking mode, and makes the device persistent. It makes the
/// device if there is none. Each packet has a header of [`VNET_HEADER`] bytes.
pub fn open_queue(name: &str) -> Result<(OwnedFd, Offload)> {
    let queue = attach(name)?;
    let failed = |what: &str| {
        let what = format!("{what} of TUN device {name}");
        move |error: Errno| Error::io(what, error)
    };
    let descriptor = queue.as_raw_fd();
    ioctl::persist(descriptor, true).map_err(failed("keep"))?;
    let length = VNET_HEADER as libc::c_int;
    ioctl::header_length(descriptor, &length).map_err(failed("set the header length"))?;
    let offload = set_offload(descriptor).map_err(failed("set the offloads"))?;
    Ok((queue.into(), offload))
}

/// The name that the queue's device has now.
pub fn device_name(queue: impl AsFd) -> Result<String> {
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: 0,
        _rest: [0; 22],
    };
    ioctl::device(queue.as_fd().as_raw_fd(), &mut request)
        .map_err(|error| Error::io("find the TUN device of a queue", error))?;
    let name = request.name.split(|byte| *byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

/// The queue's device goes when its last queue is closed.
pub fn release(queue: impl AsFd) -> Result<()> {
    ioctl::persist(queue.as_fd().as_raw_fd(), false)
        .map_err(|error| Error::io("release the TUN device of a queue", error))?;
    Ok(())
}

/// The most that the kernel has.
fn set_offload(queue: libc::c_int) -> nix::Result<Offload> {
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    let attempts = [
        (tcp | TUN_F_USO4 | TUN_F_USO6, true, true),
        (tcp, true, false),
        (0, false, false),
    ];
    let mut last = Errno::EINVAL;
    for (flags, tcp, udp) in attempts {
        match ioctl::offload(queue, flags) {
            Ok(_) => return Ok(Offload { tcp, udp }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn attach(name: &str) -> Result<File> {
    if name.is_empty() || name.len() > NAME_MAX {
        let what = format!("open TUN device {name:?}: a name has 1 to {NAME_MAX} bytes");
        return Err(Error::io(what, Errno::EINVAL));
    }
    let queue = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE)
        .map_err(|error| Error::io(format!("open {CLONE_DEVICE}"), error))?;
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE,
        _rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    ioctl::attach(queue.as_raw_fd(), &mut request)
        .map_err(|error| Error::io(format!("attach to TUN device {name}"), error))?;
    Ok(queue)
}
