//! A connection to the system's D-Bus.

use crate::dbus::{self, Call, HEAD, Message};
use nix::unistd::geteuid;
use std::{
    env,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

const SOCKET: &str = "/var/run/dbus/system_bus_socket";
/// The default of libdbus.
const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
/// Longest line of the authentication protocol that is read, in bytes.
const LINE_MAX: usize = 1024;
const BUS: &str = "org.freedesktop.DBus";

pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusFailure {
    /// The socket failed, or no answer came in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The answer is not a D-Bus message.
    #[error("{0}")]
    Malformed(#[from] dbus::Malformed),
    /// The bus does not accept this user.
    #[error("the bus refused to authenticate: {0:?}")]
    Refused(String),
    /// The answer is an error.
    #[error("{text} ({name})")]
    Answer { name: String, text: String },
}

impl Bus {
    /// Connects, authenticates as this user ("EXTERNAL": the bus asks the kernel), and sends Hello.
    pub(crate) fn connect() -> Result<Bus, BusFailure> {
        Bus::start(UnixStream::connect(socket())?)
    }

    fn start(mut stream: UnixStream) -> Result<Bus, BusFailure> {
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let uid = geteuid().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let answer = read_line(&mut stream)?;
        if !answer.starts_with("OK ") {
            return Err(BusFailure::Refused(answer));
        }
        stream.write_all(b"BEGIN\r\n")?;
        let mut bus = Bus { stream, serial: 0 };
        bus.call_bus("Hello", &[])?;
        Ok(bus)
    }

    /// Calls a method of the bus itself.
    pub(crate) fn call_bus(
        &mut self,
        member: &str,
        args: &[&str],
    ) -> Result<Option<bool>, BusFailure> {
        self.call(&Call {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
            args,
        })
    }

    /// The answer's first value, if it is a boolean.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> Result<Option<bool>, BusFailure> {
        self.serial += 1;
        self.stream.write_all(&call.encode(self.serial))?;
        loop {
            match self.receive()? {
                Message::Return { reply_to, boolean } if reply_to == self.serial => {
                    return Ok(boolean);
                }
                Message::Error {
                    reply_to,
                    name,
                    text,
                } if reply_to == self.serial => {
                    return Err(BusFailure::Answer { name, text });
                }
                // signals, such as NameAcquired
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> Result<Message, BusFailure> {
        let mut head = [0; HEAD];
        self.stream.read_exact(&mut head)?;
        let mut message = vec![0; dbus::length(&head)?];
        let (start, rest) = message.split_at_mut(HEAD);
        start.copy_from_slice(&head);
        self.stream.read_exact(rest)?;
        Ok(dbus::decode(&message)?)
    }
}

/// The first path of DBUS_SYSTEM_BUS_ADDRESS, or the default path.
pub(crate) fn socket() -> PathBuf {
    let address = env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
    let path = address
        .iter()
        .flat_map(|text| text.split(';'))
        .find_map(|one| {
            let keys = one.strip_prefix("unix:")?;
            keys.split(',').find_map(|key| key.strip_prefix("path="))
        });
    path.unwrap_or(SOCKET).into()
}

/// Reads byte by byte, because the bytes after the newline belong to the messages.
fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") && line.len() < LINE_MAX {
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        thread,
    };

    /// A METHOD_RETURN (2) or ERROR (3) without a body for the call with this serial.
    fn answer(kind: u8, serial: u8) -> Vec<u8> {
        let name = b"\x04\x01s\0\x03\0\0\0a.b\0";
        let mut message = vec![b'l', kind, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 20, 0, 0, 0];
        message.extend([5, 1, b'u', 0, serial, 0, 0, 0]);
        message.extend(name);
        message.resize(40, 0);
        message
    }

    #[test]
    fn calls_follow_authentication_and_skip_answers_to_others() {
        let (client, server) = UnixStream::pair().unwrap();
        let serving = thread::spawn(move || {
            let mut reader = BufReader::new(server);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(line.starts_with("\0AUTH EXTERNAL "), "{line}");
            reader.get_mut().write_all(b"OK 0123\r\n").unwrap();
            line.clear();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, "BEGIN\r\n");
            for answers in [
                vec![answer(4, 1), answer(2, 1)],
                vec![answer(3, 9), answer(3, 2)],
            ] {
                let mut message = vec![0; HEAD];
                reader.read_exact(&mut message).unwrap();
                message.resize(dbus::length(message.first_chunk().unwrap()).unwrap(), 0);
                reader.read_exact(&mut message[HEAD..]).unwrap();
                reader.get_mut().write_all(&answers.concat()).unwrap();
            }
        });
        let mut bus = Bus::start(client).unwrap();
        let failure = bus.call_bus("GetNameOwner", &["a.b"]).unwrap_err();
        assert_eq!(failure.to_string(), " (a.b)");
        serving.join().unwrap();
        let (client, mut server) = UnixStream::pair().unwrap();
        server.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        assert!(matches!(Bus::start(client), Err(BusFailure::Refused(_))));
    }
}
