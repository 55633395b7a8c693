//! File descriptors that pass from one process to another over a Unix socket (SCM_RIGHTS, unix(7)).

use crate::{Error, Result};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg},
};
use std::{
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// The most that one message carries (SCM_MAX_FD in net/scm.h).
pub const MOST: usize = 253;

/// Sends descriptors with one byte.
pub fn send(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let byte = [IoSlice::new(&[0])];
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &byte,
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(|error| Error::io("send file descriptors", error))?;
    Ok(())
}

/// Receives what [`send`] sent. They are closed in a program that this process executes.
pub fn receive(socket: &UnixStream) -> Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; MOST]);
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut buffer,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .map_err(|error| Error::io("receive file descriptors", error))?;
    let mut received = Vec::new();
    let messages = message
        .cmsgs()
        .map_err(|error| Error::io("receive file descriptors", error))?;
    for control in messages {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            received.extend(descriptors.into_iter().map(own));
        }
    }
    Ok(received)
}

#[allow(unsafe_code, reason = "the kernel gives numbers")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) has just made the descriptor for this process, and each is taken once
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Seek, Write},
        os::fd::AsFd,
    };

    #[test]
    fn descriptors_arrive_and_lead_to_the_same_file() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send(&ours, &[file.as_fd(), ours.as_fd()]).unwrap();
        let mut received = receive(&theirs).unwrap();
        assert_eq!(received.len(), 2);
        let mut same = File::from(received.remove(0));
        same.rewind().unwrap();
        let mut text = String::new();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
    }

    #[test]
    fn end_of_the_connection_is_no_descriptor() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert!(receive(&theirs).unwrap().is_empty());
    }
}
