//! Notices another flanneld that manages the same device, network, rules or file of this host.
//!
//! A daemon binds a Unix socket with an abstract name for each of them (unix(7)). The kernel frees
//! the name when the process ends, however it ends, and every network namespace has names of its
//! own, as it has devices of its own. Any user may bind such a name: one that a user has who could
//! not run flanneld does not count.

use crate::{best_effort::best_effort, rules::RuleNames};
use ipnetwork::IpNetwork;
use linux_net::unix_sockets;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
        socket, sockopt::PeerCredentials,
    },
    unistd::geteuid,
};
use std::{
    fmt, fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};
use tracing::warn;

/// What only one daemon may manage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A network device, by name.
    Device(String),
    /// A network that pods have addresses of.
    Network(IpNetwork),
    /// Nftables tables and iptables chains, by the name of the table of IPv4.
    Rules(String),
    /// A file, and the option that names it.
    File(PathBuf, &'static str),
}

/// Holds the resources until it is dropped.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    _sockets: Vec<Option<OwnedFd>>,
}

/// Why a resource cannot be held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    /// Another process holds it.
    #[error(
        "another flanneld{} manages {resource}: stop it, or give this one {}",
        process(*.pid),
        resource.alternative()
    )]
    Held {
        resource: Resource,
        pid: Option<i32>,
    },
    /// The kernel refuses the socket.
    #[error("cannot find out whether another flanneld manages {resource}: {source}")]
    Socket {
        resource: Resource,
        source: io::Error,
    },
}

impl InstanceLock {
    /// Holds all of them, or none.
    pub(crate) fn acquire(
        resources: impl IntoIterator<Item = Resource>,
    ) -> Result<InstanceLock, InstanceError> {
        let sockets = resources.into_iter().map(hold).collect::<Result<_, _>>()?;
        Ok(InstanceLock { _sockets: sockets })
    }
}

impl Resource {
    /// The rules with these names.
    pub(crate) fn rules(names: &RuleNames) -> Resource {
        let [(_, name), _] = &names.tables;
        Resource::Rules(name.clone())
    }

    /// A name of at most 107 bytes that no other resource of the network namespace has. A file is
    /// named by its folder's device and inode: containers see one folder under several paths.
    fn name(&self) -> Vec<u8> {
        let name = match self {
            Resource::Device(name) => format!("flanneld/device/{name}"),
            Resource::Network(network) => format!("flanneld/network/{network}"),
            // a daemon of an earlier version holds this name
            Resource::Rules(_) if *self == Resource::rules(&RuleNames::upstream()) => {
                "flanneld/tables".to_owned()
            }
            Resource::Rules(name) => format!("flanneld/tables/{name}"),
            Resource::File(path, _) => {
                let folder = path.parent().filter(|folder| folder != &Path::new(""));
                let folder = folder.unwrap_or(Path::new("."));
                let folder = match fs::metadata(folder) {
                    Ok(folder) => format!("{:x}:{:x}", folder.dev(), folder.ino()),
                    Err(_) => folder.display().to_string(),
                };
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                format!("flanneld/file/{folder}/{file}")
            }
        };
        let mut name = name.into_bytes();
        name.truncate(MAX_NAME);
        name
    }

    fn alternative(&self) -> String {
        match self {
            Resource::Device(name) => match is_named_by_vni(name) {
                true => "a network with another VNI".to_owned(),
                false => "a network with another backend".to_owned(),
            },
            Resource::Network(_) => "another network".to_owned(),
            Resource::Rules(_) => "a backend that has a device".to_owned(),
            Resource::File(_, option) => format!("another file ({option})"),
        }
    }
}

/// sun_path without the first byte, which marks an abstract name.
const MAX_NAME: usize = 107;

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Device(name) => f.write_str(name),
            Resource::Network(network) => write!(f, "the network {network}"),
            Resource::Rules(name) => write!(f, "the packet-filter rules {name}"),
            Resource::File(path, _) => write!(f, "{}", path.display()),
        }
    }
}

/// True for the devices of vxlan: those of another backend have the same names in each network.
fn is_named_by_vni(device: &str) -> bool {
    let vni = device.rsplit_once('.').map(|(_, vni)| vni);
    vni.is_some_and(|vni| vni.bytes().all(|byte| byte.is_ascii_digit()))
}

/// For messages.
pub(crate) fn process(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// The socket that holds the resource; None if the name of the socket is a stranger's.
fn hold(resource: Resource) -> Result<Option<OwnedFd>, InstanceError> {
    let name = resource.name();
    let attempt = || -> nix::Result<Result<OwnedFd, Option<i32>>> {
        let address = UnixAddr::new_abstract(&name)?;
        let new_socket = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Unix, SockType::Stream, flags, None)
        };
        let ours = new_socket()?;
        match bind(ours.as_raw_fd(), &address) {
            Ok(()) => {
                listen(&ours, Backlog::MAXALLOWABLE)?;
                return Ok(Ok(ours));
            }
            Err(Errno::EADDRINUSE) => {}
            Err(error) => return Err(error),
        }
        // no accept(2) is needed: the credentials are those of listen(2)
        let theirs = new_socket()?;
        let pid = connect(theirs.as_raw_fd(), &address)
            .and_then(|()| getsockopt(&theirs, PeerCredentials))
            .map(|credentials| credentials.pid());
        Ok(Err(pid.ok().filter(|pid| *pid != 0)))
    };
    match attempt() {
        Ok(Ok(socket)) => Ok(Some(socket)),
        Ok(Err(pid)) => match stranger(&name) {
            Some(uid) => {
                warn!(
                    "user {uid} has taken the name of the socket by which two daemons that manage {resource} would notice \
                     each other"
                );
                Ok(None)
            }
            None => Err(InstanceError::Held { resource, pid }),
        },
        Err(error) => Err(InstanceError::Socket {
            resource,
            source: error.into(),
        }),
    }
}

/// The user who has bound the name, unless it is this process's or root.
fn stranger(name: &[u8]) -> Option<u32> {
    let owner = unix_sockets::owner_of_abstract(name);
    let uid = best_effort(owner, "the name counts as that of a daemon")??;
    (uid != 0 && uid != geteuid().as_raw()).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnet::fixtures;
    use nix::unistd::{Uid, setfsuid};
    use std::{
        os::{
            linux::net::SocketAddrExt,
            unix::net::{SocketAddr, UnixListener},
        },
        thread,
    };

    fn device(name: &str) -> Resource {
        Resource::Device(format!("{name}.{}", std::process::id()))
    }

    #[test]
    fn resource_has_one_holder_until_it_is_dropped() {
        let held = InstanceLock::acquire([device("a"), device("b")]).unwrap();
        let error = InstanceLock::acquire([device("c"), device("b")]).unwrap_err();
        let text = error.to_string();
        let pid = std::process::id();
        assert!(
            text.starts_with(&format!("another flanneld (process {pid}) manages b.{pid}: stop it, or give this one a network with another VNI")),
            "{text}"
        );
        // the failed attempt holds nothing
        fixtures::closed_everywhere();
        drop(InstanceLock::acquire([device("c")]).unwrap());
        drop(held);
        fixtures::closed_everywhere();
        InstanceLock::acquire([device("a"), device("b")]).unwrap();
    }

    #[test]
    fn another_vni_helps_only_where_it_names_the_device() {
        for (device, network) in [
            ("flannel.1", "a network with another VNI"),
            ("flannel-v6.4096", "a network with another VNI"),
            ("flannel.ipip", "a network with another backend"),
            ("flannel-wg", "a network with another backend"),
            ("flannel0", "a network with another backend"),
        ] {
            let resource = Resource::Device(device.to_owned());
            assert_eq!(resource.alternative(), network, "{device}");
        }
    }

    #[test]
    fn file_is_the_same_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::create_dir(&one).unwrap();
        std::os::unix::fs::symlink(&one, &other).unwrap();
        let file = |folder: &Path, name| Resource::File(folder.join(name), "-subnet-file");
        let _held = InstanceLock::acquire([file(&one, "subnet.env")]).unwrap();
        InstanceLock::acquire([file(&one, "other.env")]).unwrap();
        let text = InstanceLock::acquire([file(&other, "subnet.env")])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("subnet.env: stop it, or give this one another file (-subnet-file)"),
            "{text}"
        );
    }

    #[test]
    fn name_that_another_user_has_taken_stops_no_daemon() {
        let taken = device("taken");
        let bind = || {
            // of this thread only; a socket belongs to the user who makes it
            setfsuid(Uid::from_raw(65_534));
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(taken.name()).unwrap())
        };
        let _theirs = thread::scope(|scope| scope.spawn(bind).join().unwrap()).unwrap();
        let held = hold(device("taken"));
        match geteuid().is_root() {
            true => assert!(held.unwrap().is_none()),
            // without privilege the thread stays the same user
            false => assert!(matches!(held, Err(InstanceError::Held { .. }))),
        }
    }

    #[test]
    fn many_refusals_do_not_block() {
        let _held = InstanceLock::acquire([device("busy")]).unwrap();
        for _ in 0..10_000 {
            InstanceLock::acquire([device("busy")]).unwrap_err();
        }
    }
}
