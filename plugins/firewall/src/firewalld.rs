//! firewalld, over the system's D-Bus: a container's addresses become sources of a zone.
use crate::dbus::{self, Call, HEAD, Message};
use cni_conf::Error;
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
/// What other clients of a bus wait for an answer.
const PATIENCE: Duration = Duration::from_secs(25);
const BUS: &str = "org.freedesktop.DBus";
const FIREWALLD: &str = "org.fedoraproject.FirewallD1";

/// A connection to the bus.
pub(crate) struct Firewalld {
    stream: UnixStream,
    serial: u32,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] dbus::Malformed),
    #[error("the bus refused to authenticate: {0:?}")]
    Refused(String),
    #[error("{text} ({name})")]
    Answer { name: String, text: String },
}

impl Firewalld {
    /// None unless firewalld runs.
    pub(crate) fn running() -> Option<Firewalld> {
        let mut firewalld = open().ok()?;
        firewalld.bus_call("GetNameOwner", &[FIREWALLD]).ok()?;
        Some(firewalld)
    }

    pub(crate) fn connect() -> Result<Firewalld, Error> {
        open().map_err(|error| {
            Error::internal(format!(
                "cannot talk to D-Bus at {}: {error}; start it, or set \"backend\": \"iptables\"",
                socket().display()
            ))
        })
    }

    /// An address that has a zone already keeps it, as upstream leaves it.
    pub(crate) fn add(&mut self, zone: &str, ips: &[IpAddr]) -> Result<(), Error> {
        for ip in ips {
            let source = source(*ip);
            match self.zone_call("addSource", zone, &source) {
                Err(Failure::Answer { text, .. }) if text.contains("ZONE_ALREADY_SET") => {}
                Err(error) => {
                    return Err(Error::internal(format!(
                        "failed to add the address {source} to {zone} zone: {error}"
                    )));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// What is not there needs no removing, and a firewalld that has just been stopped has nothing left.
    pub(crate) fn remove(&mut self, zone: &str, ips: &[IpAddr]) {
        for ip in ips {
            match self.zone_call("removeSource", zone, &source(*ip)) {
                Err(Failure::Answer { .. }) | Ok(_) => {}
                Err(error) => {
                    plugin::warn(format_args!("firewall: removing {ip} from {zone}: {error}"))
                }
            }
        }
    }

    pub(crate) fn check(&mut self, zone: &str, ips: &[IpAddr]) -> Result<(), Error> {
        for ip in ips {
            let source = source(*ip);
            match self.zone_call("querySource", zone, &source) {
                Ok(Some(true)) => {}
                _ => {
                    return Err(Error::internal(format!(
                        "failed to find the address {source} in {zone} zone"
                    )));
                }
            }
        }
        Ok(())
    }

    fn zone_call(
        &mut self,
        member: &str,
        zone: &str,
        source: &str,
    ) -> Result<Option<bool>, Failure> {
        self.call(&Call {
            destination: FIREWALLD,
            path: "/org/fedoraproject/FirewallD1",
            interface: "org.fedoraproject.FirewallD1.zone",
            member,
            args: &[zone, source],
        })
    }

    fn bus_call(&mut self, member: &str, args: &[&str]) -> Result<Option<bool>, Failure> {
        self.call(&Call {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
            args,
        })
    }

    /// The answer's first value, if it is a boolean.
    fn call(&mut self, call: &Call<'_>) -> Result<Option<bool>, Failure> {
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
                    return Err(Failure::Answer { name, text });
                }
                // signals, such as NameAcquired
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> Result<Message, Failure> {
        let mut head = [0; HEAD];
        self.stream.read_exact(&mut head)?;
        let mut message = head.to_vec();
        message.resize(dbus::length(&head)?, 0);
        self.stream
            .read_exact(message.get_mut(HEAD..).unwrap_or_default())?;
        Ok(dbus::decode(&message)?)
    }
}

fn source(ip: IpAddr) -> String {
    go_compat::cidr::host(ip).to_string()
}

/// The first path of DBUS_SYSTEM_BUS_ADDRESS, or the usual one.
fn socket() -> PathBuf {
    let address = env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    let path = address.split(';').find_map(|one| {
        let keys = one.strip_prefix("unix:")?;
        keys.split(',').find_map(|key| key.strip_prefix("path="))
    });
    path.unwrap_or(SOCKET).into()
}

/// Connects, authenticates as this user ("EXTERNAL": the bus asks the kernel), and says Hello.
fn open() -> Result<Firewalld, Failure> {
    let mut stream = UnixStream::connect(socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let uid: String = (geteuid().to_string().bytes())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
    let answer = line(&mut stream)?;
    if !answer.starts_with("OK ") {
        return Err(Failure::Refused(answer));
    }
    stream.write_all(b"BEGIN\r\n")?;
    let mut firewalld = Firewalld { stream, serial: 0 };
    firewalld.bus_call("Hello", &[])?;
    Ok(firewalld)
}

/// Up to the newline; byte by byte, since what follows is none of it.
fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") && line.len() < 1024 {
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
