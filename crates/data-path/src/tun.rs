//! A queue of the TUN device.

use crate::vnet::VnetHeader;
use linux_net::tun::{self, Offload};
use nix::{errno::Errno, sys::uio::writev, unistd::read};
use std::{
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// A queue. The kernel gives the packets of one flow to one queue.
#[derive(Debug)]
pub struct Queue {
    descriptor: OwnedFd,
    offload: Offload,
}

impl Queue {
    /// Opens a queue of the device, and makes the device if there is none.
    pub fn open(device: &str) -> linux_net::Result<Queue> {
        let (descriptor, offload) = tun::open_queue(device)?;
        Ok(Queue {
            descriptor,
            offload,
        })
    }

    /// A queue that another process has opened.
    pub fn from_descriptor(descriptor: OwnedFd, offload: Offload) -> Queue {
        Queue {
            descriptor,
            offload,
        }
    }

    /// What the kernel leaves to this process.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Reads a packet with its header. EAGAIN: there is none; EBADFD: the device is deleted.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        read(&self.descriptor, buffer)
    }

    /// Writes a packet.
    pub(crate) fn write(&self, header: VnetHeader, packet: &[u8]) -> nix::Result<()> {
        let header = header.to_bytes();
        let parts = [IoSlice::new(&header), IoSlice::new(packet)];
        loop {
            match writev(&self.descriptor, &parts) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl From<Queue> for OwnedFd {
    fn from(queue: Queue) -> OwnedFd {
        queue.descriptor
    }
}
