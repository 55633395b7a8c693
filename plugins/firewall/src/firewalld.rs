//! firewalld over the system's D-Bus: a container's addresses are sources of a zone.
use crate::{
    dbus::{self, Call, HEAD, Message},
    error::Failure,
};
use go_compat::cidr;
use nix::unistd::geteuid;
use std::{
    env,
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

const SOCKET: &str = "/var/run/dbus/system_bus_socket";
/// The default of libdbus.
const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
const BUS: &str = "org.freedesktop.DBus";
const FIREWALLD: &str = "org.fedoraproject.FirewallD1";
/// Longest line of the authentication protocol that is read, in bytes.
const LINE_MAX: usize = 1024;

/// A connection to the bus.
pub(crate) struct Firewalld {
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

impl Firewalld {
    /// None if firewalld does not run, or the bus cannot be used, which upstream does not
    /// distinguish.
    pub(crate) fn running() -> Option<Firewalld> {
        let mut firewalld = open().ok()?;
        firewalld.bus_call("GetNameOwner", &[FIREWALLD]).ok()?;
        Some(firewalld)
    }

    pub(crate) fn connect() -> Result<Firewalld, Failure> {
        open().map_err(|source| Failure::Bus {
            socket: socket(),
            source,
        })
    }

    /// An address that is in a zone already stays there, as upstream.
    pub(crate) fn add(&mut self, zone: &str, ips: &[IpAddr]) -> Result<(), Failure> {
        for ip in ips {
            match self.zone_call("addSource", zone, *ip) {
                Err(BusFailure::Answer { text, .. }) if text.contains("ZONE_ALREADY_SET") => {}
                Err(source) => {
                    return Err(Failure::AddSource {
                        address: cidr::host(*ip).to_string(),
                        zone: zone.to_owned(),
                        source,
                    });
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// An error answer means that the address is not in the zone. A lost connection means that
    /// firewalld has stopped, which removed all addresses.
    pub(crate) fn remove(&mut self, zone: &str, ips: &[IpAddr]) {
        for ip in ips {
            match self.zone_call("removeSource", zone, *ip) {
                Err(BusFailure::Answer { .. }) | Ok(_) => {}
                Err(error) => {
                    plugin::warn(format_args!("firewall: removing {ip} from {zone}: {error}"));
                }
            }
        }
    }

    pub(crate) fn check(&mut self, zone: &str, ips: &[IpAddr]) -> Result<(), Failure> {
        for ip in ips {
            // a failed call is a missing address, as upstream
            if !matches!(self.zone_call("querySource", zone, *ip), Ok(Some(true))) {
                return Err(Failure::MissingSource {
                    address: cidr::host(*ip).to_string(),
                    zone: zone.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn zone_call(
        &mut self,
        member: &str,
        zone: &str,
        ip: IpAddr,
    ) -> Result<Option<bool>, BusFailure> {
        self.call(&Call {
            destination: FIREWALLD,
            path: "/org/fedoraproject/FirewallD1",
            interface: "org.fedoraproject.FirewallD1.zone",
            member,
            args: &[zone, &cidr::host(ip).to_string()],
        })
    }

    fn bus_call(&mut self, member: &str, args: &[&str]) -> Result<Option<bool>, BusFailure> {
        self.call(&Call {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
            args,
        })
    }

    /// The answer's first value, if it is a boolean.
    fn call(&mut self, call: &Call<'_>) -> Result<Option<bool>, BusFailure> {
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
        let mut message = head.to_vec();
        let rest = dbus::length(&head)?.saturating_sub(HEAD);
        // decoding refuses a message that ends early
        (&self.stream).take(rest as u64).read_to_end(&mut message)?;
        Ok(dbus::decode(&message)?)
    }
}

/// The first path of DBUS_SYSTEM_BUS_ADDRESS, or the default path.
fn socket() -> PathBuf {
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

/// Connects, authenticates as this user ("EXTERNAL": the bus asks the kernel), and sends Hello.
fn open() -> Result<Firewalld, BusFailure> {
    let mut stream = UnixStream::connect(socket())?;
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
    let mut firewalld = Firewalld { stream, serial: 0 };
    firewalld.bus_call("Hello", &[])?;
    Ok(firewalld)
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
