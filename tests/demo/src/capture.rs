//! Packet capture. tcpdump drops root before it captures, which fails in a sandbox with a single
//! user; so this captures the frame, and tcpdump decodes it from a file.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use std::{
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, Stdio},
};

/// A packet socket that receives every frame of a network namespace.
pub(crate) struct Capture(OwnedFd);

impl Capture {
    /// Starts capturing in the calling thread's network namespace.
    pub(crate) fn open() -> Capture {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        );
        Capture(socket.expect("packet socket"))
    }

    /// The first captured frame that `wanted` accepts.
    pub(crate) fn first(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut frame = vec![0; 65536];
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            if wanted(&frame[..length]) {
                frame.truncate(length);
                return Some(frame);
            }
        }
        None
    }
}

/// An Ethernet frame with vxlan inside, as tcpdump prints it.
pub(crate) fn described(frame: &[u8]) -> String {
    let length = (frame.len() as u32).to_le_bytes();
    let mut file = Vec::new();
    // libpcap's file header (magic, version 2.4, snap length, Ethernet) and the packet's time
    for field in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1, 0, 0] {
        file.extend_from_slice(&u32::to_le_bytes(field));
    }
    for part in [&length[..], &length, frame] {
        file.extend_from_slice(part);
    }
    let mut tcpdump = Command::new("unshare")
        .args([
            "--user",
            "--map-user=1000",
            "tcpdump",
            "-t",
            "-n",
            "-e",
            "-T",
            "vxlan",
            "-r",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tcpdump");
    tcpdump
        .stdin
        .take()
        .expect("stdin")
        .write_all(&file)
        .expect("tcpdump reads");
    let output = tcpdump.wait_with_output().expect("tcpdump");
    assert!(output.status.success(), "tcpdump cannot read the frame");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
