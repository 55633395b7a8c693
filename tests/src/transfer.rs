//! A TCP stream from one pod to another, whose bytes the receiver compares.

use crate::{Pod, process::deadline};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Bytes that are written at once.
const CHUNK: usize = 64 << 10;

/// Sends `bytes` over TCP to an address of the other pod. The error says what did not arrive:
/// `stalled` is how long nothing may move.
pub fn tcp(
    from: &Pod<'_>,
    to: &Pod<'_>,
    ip: &str,
    bytes: usize,
    stalled: Duration,
) -> Result<(), String> {
    let stalled = deadline(stalled);
    let ip: IpAddr = ip.parse().map_err(|error| format!("{ip}: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            to.run(|| {
                let listener = TcpListener::bind((ip, 0)).map_err(|error| error.to_string())?;
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                sender.send(address).map_err(|error| error.to_string())?;
                receive(&listener, bytes, stalled)
            })
        });
        let address = receiver
            .recv()
            .map_err(|_| format!("no listener at {ip}"))?;
        let sent = from.run(|| send(address, bytes, stalled));
        if sent.is_err() {
            // ends accept(), where no connection came about
            to.run(|| drop(TcpStream::connect(address)));
        }
        let received = received.join().map_err(|_| "the receiver panicked")?;
        sent.map_err(|error| format!("sending to {address}: {error}; received: {received:?}"))?;
        received
    })
}

/// The byte at a place of the stream: no part of 256 bytes equals the next.
fn byte(place: usize) -> u8 {
    (place ^ place >> 8 ^ place >> 16) as u8
}

fn send(address: SocketAddr, bytes: usize, stalled: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, stalled)?;
    stream.set_write_timeout(Some(stalled))?;
    stream.set_read_timeout(Some(stalled))?;
    for start in (0..bytes).step_by(CHUNK) {
        let end = (start + CHUNK).min(bytes);
        stream.write_all(&(start..end).map(byte).collect::<Vec<_>>())?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // the receiver has read everything when it closes its side
    let rest = stream.read(&mut [0])?;
    match rest {
        0 => Ok(()),
        _ => Err(io::Error::other("the receiver sent something")),
    }
}

fn receive(listener: &TcpListener, bytes: usize, stalled: Duration) -> Result<(), String> {
    let (mut stream, _) = listener.accept().map_err(|error| error.to_string())?;
    let timeout = stream.set_read_timeout(Some(stalled));
    timeout.map_err(|error| error.to_string())?;
    let mut buffer = vec![0; CHUNK];
    let mut place = 0;
    loop {
        let read = stream.read(&mut buffer);
        let count = read.map_err(|error| format!("after {place} of {bytes} bytes: {error}"))?;
        if count == 0 {
            break;
        }
        let wrong = buffer[..count]
            .iter()
            .enumerate()
            .find(|(offset, value)| **value != byte(place + offset));
        if let Some((offset, _)) = wrong {
            return Err(format!("byte {} is another one", place + offset));
        }
        place += count;
    }
    match place == bytes {
        true => Ok(()),
        false => Err(format!("{place} of {bytes} bytes arrived")),
    }
}
