//! The program: where it is, its configuration, how it is started, and how one that another daemon
//! left behind is found again or ended.

use super::{
    client::{self, Client},
    message::Writer,
};
use crate::{best_effort::best_effort, one_line::one_line};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use std::{
    env, fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, UdpSocket},
    os::unix::{fs::DirBuilderExt, fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

/// Where the packages of Debian, Alpine, Fedora and others have it; behind PATH, as upstream.
const FOLDERS: [&str; 4] = [
    "/usr/lib/strongswan",
    "/usr/lib/ipsec",
    "/usr/libexec/strongswan",
    "/usr/libexec/ipsec",
];
const NAME: &str = "charon";
/// Where every charon keeps its process id: it does not start while that process runs.
const SYSTEM_PID_FILE: &str = "/var/run/charon.pid";
/// IKE (RFC 7296).
const IKE_PORT: u16 = 500;
/// How long a charon that was started may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one that is ended may take: it tells its peers.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
/// The longest path of a Unix socket (sockaddr_un without its final zero), in bytes.
const SOCKET_PATH_MAX: usize = 107;
/// What the configuration loads: VICI, the kernel, the sockets, and all that proposals of ESP and
/// IKE may name. A plugin that is not installed is skipped.
const PLUGINS: &str = "random nonce aes aesni sha1 sha2 sha3 md5 hmac kdf prf xcbc cmac ctr ccm gcm chapoly drbg \
    curve25519 gmp mgf1 openssl kernel-netlink socket-default vici";

/// Why charon does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is not installed.
    #[error(
        "strongSwan's charon is neither in PATH nor in {}: install it (Debian: apt install strongswan-charon \
         libstrongswan-standard-plugins; Alpine: apk add strongswan), or change Backend.Type",
        FOLDERS.join(", ")
    )]
    NotFound,
    /// Its folder or configuration cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The folder's name is too long for a socket in it.
    #[error(
        "the path {} is too long for a socket: choose a -subnet-file in another folder",
        .0.display()
    )]
    LongPath(PathBuf),
    /// Another charon runs.
    #[error(
        "another charon runs (process {0}, {SYSTEM_PID_FILE}), and a host can have only one: stop it (Debian: \
         systemctl disable --now strongswan-starter strongswan)"
    )]
    AnotherCharon(i32),
    /// Another program has the port.
    #[error(
        "another program has UDP port {IKE_PORT}, which IKE needs: stop it (ss -ulpn 'sport = {IKE_PORT}')"
    )]
    PortInUse,
    /// The program cannot be executed.
    #[error("cannot start {}: {source}", path.display())]
    Spawn { path: PathBuf, source: io::Error },
    /// It ended at once.
    #[error("{} ended at its start ({status}); its own lines in this log say why", path.display())]
    Ended { path: PathBuf, status: String },
    /// It does not answer.
    #[error("{} does not answer on {}", path.display(), socket.display())]
    Silent { path: PathBuf, socket: PathBuf },
}

/// The folder of charon's files, below that of subnet.env.
pub(in crate::backend::ipsec) fn folder(run_folder: &Path) -> PathBuf {
    run_folder.join(NAME)
}

/// Its files, and the process if this daemon started it.
#[derive(Debug)]
pub(super) struct Program {
    folder: PathBuf,
    child: Option<Child>,
}

impl Program {
    pub(super) fn new(folder: &Path) -> Program {
        Program {
            folder: folder.to_owned(),
            child: None,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("charon.vici")
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("strongswan.conf")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("charon.pid")
    }

    /// The executable.
    pub(super) fn find(&self) -> Result<PathBuf, Error> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
        let mut files = folders.map(|folder| folder.join(NAME));
        files
            .find(|file| is_executable(file))
            .ok_or(Error::NotFound)
    }

    /// A connection to the charon that runs, or to a new one.
    pub(super) async fn connect(&mut self) -> Result<Client, Error> {
        self.reap();
        if let Some((client, version)) = self.running().await {
            info!("charon of {version} runs already; its keys stay");
            return Ok(client);
        }
        self.end_left_over().await;
        self.start().await
    }

    /// The charon that answers on the socket, with its version.
    pub(super) async fn running(&self) -> Option<(Client, String)> {
        let answer = async {
            let mut client = Client::connect(&self.socket()).await?;
            let version = client.command("version", Writer::default()).await?;
            let text = |name| one_line(version.text(name).unwrap_or_default());
            let version = format!("strongSwan {}", text("version"));
            Ok::<_, client::Error>((client, version))
        };
        best_effort(answer.await, "none runs")
    }

    async fn start(&mut self) -> Result<Client, Error> {
        let path = self.find()?;
        self.write_configuration()?;
        refuse_another()?;
        let mut command = Command::new(&path);
        command
            .env("STRONGSWAN_CONF", self.configuration())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // a signal for this daemon's process group is not for it
            .process_group(0);
        let child = command.spawn().map_err(|source| Error::Spawn {
            path: path.clone(),
            source,
        })?;
        let pid_file = self.pid_file();
        let pid = child.id();
        self.child = Some(child);
        fs::write(&pid_file, pid.to_string()).map_err(|source| Error::Write {
            path: pid_file,
            source,
        })?;
        let due = Instant::now() + START_TIMEOUT;
        while Instant::now() < due {
            if let Some(status) = self.reap() {
                return Err(Error::Ended { path, status });
            }
            if let Some((client, version)) = self.running().await {
                info!("started {} of {version}, process {pid}", path.display());
                return Ok(client);
            }
            sleep(POLL).await;
        }
        self.end_left_over().await;
        let socket = self.socket();
        Err(Error::Silent { path, socket })
    }

    /// How the process ended that this daemon started, if it did.
    fn reap(&mut self) -> Option<String> {
        let status = match self.child.as_mut()?.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.child = None;
        Some(status)
    }

    fn write_configuration(&self) -> Result<(), Error> {
        let socket = self.socket();
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Error::LongPath(socket));
        }
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        let private = fs::Permissions::from_mode(0o700);
        made.and_then(|()| fs::set_permissions(&self.folder, private))
            .map_err(|source| Error::Write {
                path: self.folder.clone(),
                source,
            })?;
        let path = self.configuration();
        fs::write(&path, configuration(&socket)).map_err(|source| Error::Write { path, source })
    }

    /// Ends a charon of an earlier daemon that does not answer, or that is not needed any more.
    /// True if there was one.
    pub(super) async fn end_left_over(&mut self) -> bool {
        let Some(pid) = self.left_over() else {
            return false;
        };
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if let Err(Errno::ESRCH) = kill(pid, signal) {
                break;
            }
            let due = Instant::now() + END_TIMEOUT;
            while Instant::now() < due && self.is_ours(pid) {
                self.reap();
                // a child that this process started under an earlier configuration
                let status = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                best_effort(status, "it is the child of another process");
                sleep(POLL).await;
            }
            if !self.is_ours(pid) {
                break;
            }
        }
        for file in [self.pid_file(), self.socket()] {
            best_effort(fs::remove_file(file), "the next charon replaces it");
        }
        info!("ended charon, process {pid}");
        true
    }

    /// The process in the pid file, if it is the charon of this folder.
    fn left_over(&self) -> Option<Pid> {
        let text = best_effort(fs::read_to_string(self.pid_file()), "none was started")?;
        let pid = best_effort(text.trim().parse(), "another program wrote it")?;
        let pid = Pid::from_raw(pid);
        (pid.as_raw() > 1 && self.is_ours(pid)).then_some(pid)
    }

    /// True if the process has this folder's configuration: a process id may be another's by now. A
    /// process that ended has none.
    fn is_ours(&self, pid: Pid) -> bool {
        let variables = fs::read(format!("/proc/{pid}/environ"));
        let variables = best_effort(variables, "the process is gone").unwrap_or_default();
        let own = [
            b"STRONGSWAN_CONF=",
            self.configuration().as_os_str().as_encoded_bytes(),
        ]
        .concat();
        variables
            .split(|byte| *byte == 0)
            .any(|variable| variable == own)
    }
}

fn is_executable(file: &Path) -> bool {
    let metadata = best_effort(fs::metadata(file), "it is elsewhere");
    metadata
        .is_some_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Fails if another charon or another program for IKE runs: two would take each other's packets. A
/// file that a charon left behind, with a process id that another program has by now, is removed:
/// charon would not start.
fn refuse_another() -> Result<(), Error> {
    if let Ok(text) = fs::read_to_string(SYSTEM_PID_FILE) {
        let pid: i32 = text.trim().parse().unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if pid > 0 && is_running_charon(&stat) {
            return Err(Error::AnotherCharon(pid));
        }
        debug!("removing {SYSTEM_PID_FILE}: no charon is process {pid}");
        best_effort(fs::remove_file(SYSTEM_PID_FILE), "charon replaces it");
    }
    match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, IKE_PORT)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Error::PortInUse),
        // charon itself reports what else may be wrong
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What `/proc/PID/stat` says (proc(5)): the name in brackets and the state. A process that ended
/// (Z, until its parent asks for it) counts as running for charon, so the file is removed.
fn is_running_charon(stat: &str) -> bool {
    let name = format!("({NAME}) ");
    let state = stat.split_once(&name).map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// strongswan.conf(5). Secrets are not in it: charon is told them over VICI. It logs to flanneld's
/// stderr what concerns the negotiation (ike 1), and no secret (those need level 4).
fn configuration(socket: &Path) -> String {
    let plugins = PLUGINS.split_whitespace().filter(|name| *name != "vici");
    let plugins: String = plugins
        .map(|name| {
            // flanneld tells which addresses tunnels have: those of devices and pods, which come
            // and go, are none of them, and no news for every peer (MOBIKE)
            let roam = match name {
                "kernel-netlink" => "      roam_events = no\n",
                _ => "",
            };
            format!("    {name} {{\n      load = yes\n{roam}    }}\n")
        })
        .collect();
    format!(
        "# written by flanneld at each start of charon\n\
         charon {{\n  \
           load_modular = yes\n  \
           install_routes = no\n  \
           install_virtual_ip = no\n  \
           make_before_break = yes\n  \
           retransmit_timeout = 2.0\n  \
           retransmit_base = 1.5\n  \
           retransmit_tries = 4\n  \
           ikesa_table_size = 1024\n  \
           ikesa_table_segments = 16\n  \
           filelog {{\n    stderr {{\n      path = stderr\n      default = 0\n      ike = 1\n      cfg = 0\n    }}\n  }}\n  \
           syslog {{\n  }}\n  \
           plugins {{\n{plugins}    vici {{\n      load = yes\n      socket = unix://{}\n    }}\n  }}\n\
         }}\n",
        socket.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_the_socket_and_every_plugin_once() {
        let text = configuration(Path::new("/run/flannel/charon/charon.vici"));
        assert!(text.contains("socket = unix:///run/flannel/charon/charon.vici\n"));
        for plugin in PLUGINS.split_whitespace() {
            let section = format!("    {plugin} {{\n      load = yes\n");
            assert_eq!(text.matches(&section).count(), 1, "{plugin}");
        }
        let braces = |brace| text.matches(brace).count();
        assert_eq!(braces('{'), braces('}'));
    }

    #[test]
    fn ended_processes_and_other_programs_are_no_running_charon() {
        assert!(is_running_charon("77 (charon) S 1 77 77 0 -1"));
        for stat in ["", "77 (charon) Z 1 77", "77 (charond) S 1", "77 (sh) S 1"] {
            assert!(!is_running_charon(stat), "{stat:?}");
        }
    }

    #[test]
    fn process_of_another_program_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::new(folder.path());
        assert_eq!(program.left_over(), None);
        for text in ["", "-5", "1", "no number", &std::process::id().to_string()] {
            fs::write(program.pid_file(), text).unwrap();
            assert_eq!(program.left_over(), None, "{text:?}");
        }
        let mut child = Command::new("sleep")
            .arg("60")
            .env("STRONGSWAN_CONF", program.configuration())
            .spawn()
            .unwrap();
        fs::write(program.pid_file(), child.id().to_string()).unwrap();
        assert_eq!(
            program.left_over(),
            Some(Pid::from_raw(child.id().cast_signed()))
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(program.left_over(), None);
    }
}
