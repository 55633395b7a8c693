//! A connection to the system's D-Bus.

use crate::dbus::{self, Call, HEAD, Message};
use nix::{
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket,
            sockopt::SendTimeout,
        },
        time::TimeVal,
    },
    unistd::geteuid,
};
use std::{
    env,
    io::{self, ErrorKind, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const SOCKET: &str = "/var/run/dbus/system_bus_socket";
/// For the connection, and for each call with its answer: the default of libdbus.
const CALL_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 25 });
/// Longest line of the authentication protocol that is read, in bytes.
const LINE_MAX: usize = 1024;
const BUS: &str = "org.freedesktop.DBus";

pub(crate) struct Bus {
    stream: Timed,
    serial: u32,
}

/// The connection, whose reads and writes fail after the deadline, however little each one waits.
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Timed {
    fn new(stream: UnixStream) -> Timed {
        Timed {
            stream,
            deadline: Instant::now() + CALL_TIMEOUT,
        }
    }

    fn rest(&self) -> io::Result<Option<Duration>> {
        let rest = self.deadline.saturating_duration_since(Instant::now());
        match rest.is_zero() {
            true => Err(late()),
            false => Ok(Some(rest)),
        }
    }
}

fn late() -> io::Error {
    let text = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
    io::Error::new(ErrorKind::TimedOut, text)
}

/// The error of a socket whose own timeout has passed.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => late(),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.rest()?)?;
        self.stream.read(buffer).map_err(in_words)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.rest()?)?;
        self.stream.write(bytes).map_err(in_words)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
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
        Bus::start(open(&socket_path())?)
    }

    fn start(stream: UnixStream) -> Result<Bus, BusFailure> {
        let mut stream = Timed::new(stream);
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
        self.stream.deadline = Instant::now() + CALL_TIMEOUT;
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

/// Connects. A bus with as many connections as it takes would hold up connect(2) without end.
fn open(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let timeout = TimeVal::new(CALL_TIMEOUT.as_secs() as i64, 0);
    setsockopt(&stream, SendTimeout, &timeout)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(path)?).map_err(|error| in_words(error.into()))?;
    Ok(stream.into())
}

/// The first path of DBUS_SYSTEM_BUS_ADDRESS, or the default path.
pub(crate) fn socket_path() -> PathBuf {
    let address = env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    path(&address).unwrap_or(SOCKET).into()
}

/// The first path of an address of D-Bus.
pub(crate) fn path(address: &str) -> Option<&str> {
    address.split(';').find_map(|one| {
        let keys = one.strip_prefix("unix:")?;
        keys.split(',').find_map(|key| key.strip_prefix("path="))
    })
}

/// Reads byte by byte, because the bytes after the newline belong to the messages.
fn read_line(stream: &mut impl Read) -> io::Result<String> {
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
    use nix::sys::socket::{Backlog, bind, listen};
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

    #[test]
    fn bus_that_sends_without_an_answer_is_given_up() {
        let (client, server) = UnixStream::pair().unwrap();
        let sending = thread::spawn(move || {
            let mut server = server;
            server.write_all(b"OK 0123\r\n").unwrap();
            // answers to others, until the client has closed the connection
            while server.write_all(&answer(2, 9)).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let start = Instant::now();
        let failure = Bus::start(client).err().unwrap();
        assert!(matches!(failure, BusFailure::Io(_)), "{failure}");
        assert!(start.elapsed() < 10 * CALL_TIMEOUT);
        sending.join().unwrap();
    }

    #[test]
    fn bus_that_takes_no_connection_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let start = Instant::now();
        let mut open_until_full = std::iter::repeat_with(|| open(&path)).take(10);
        let mut kept = Vec::new();
        let error = open_until_full.find_map(|opened| opened.map(|one| kept.push(one)).err());
        assert_eq!(error.unwrap().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() < 10 * CALL_TIMEOUT);
    }
}
