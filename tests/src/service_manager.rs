//! What stands for systemd on a page's machines: `systemctl` starts and stops the service of an
//! installed unit, with its environment and capabilities, and waits for READY.

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use std::{
    env,
    fs::{self, File},
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio, exit},
    thread,
    time::{Duration, Instant},
};

const UNITS: &str = "/etc/systemd/system";
const STATE: &str = "/run/units";
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where this executable is called `systemctl`, it is that program. Call it first in `main`.
pub fn run_if_named_so() {
    let mut arguments = env::args();
    let name = arguments.next().unwrap_or_default();
    if !name.ends_with("/systemctl") && name != "systemctl" {
        return;
    }
    let words: Vec<String> = arguments.filter(|word| !word.starts_with('-')).collect();
    let result = match &words[..] {
        [command] if command == "daemon-reload" => Ok(()),
        [command, unit] => execute(command, unit.trim_end_matches(".service")),
        _ => Err("systemctl COMMAND UNIT".to_owned()),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        exit(1);
    }
    exit(0);
}

fn execute(command: &str, unit: &str) -> Result<(), String> {
    match command {
        "enable" | "start" => start(unit),
        "disable" | "stop" => stop(unit),
        "restart" => stop(unit).and_then(|()| start(unit)),
        "reload" => {
            let pid = running(unit).ok_or(format!("{unit} is not running"))?;
            kill(pid, Signal::SIGHUP).map_err(|error| error.to_string())
        }
        "is-active" | "status" => {
            let pid = running(unit).ok_or("inactive")?;
            println!("active (running), process {pid}");
            Ok(())
        }
        _ => Err(format!("unknown command {command}")),
    }
}

fn start(unit: &str) -> Result<(), String> {
    if running(unit).is_some() {
        return Ok(());
    }
    let text = fs::read_to_string(format!("{UNITS}/{unit}.service"))
        .map_err(|error| format!("Unit {unit}.service not found: {error}"))?;
    fs::create_dir_all(STATE).map_err(|error| error.to_string())?;
    fs::create_dir_all("/run/log").map_err(|error| error.to_string())?;
    let notify = format!("{STATE}/{unit}.notify");
    let _ = fs::remove_file(&notify);
    let socket = UnixDatagram::bind(&notify).map_err(|error| error.to_string())?;
    let log = format!("/run/log/{unit}.log");
    let sink = File::options().create(true).append(true).open(&log);
    let sink = sink.map_err(|error| error.to_string())?;
    let mut child = command(&text)?
        .env("NOTIFY_SOCKET", &notify)
        .stdin(Stdio::null())
        .stdout(sink.try_clone().map_err(|error| error.to_string())?)
        .stderr(sink)
        .spawn()
        .map_err(|error| error.to_string())?;
    fs::write(pid_file(unit), child.id().to_string()).map_err(|error| error.to_string())?;
    wait_ready(&socket, &mut child).map_err(|reason| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        format!("Job for {unit}.service failed: {reason}\n{log}")
    })
}

/// The command of ExecStart, with the variables of EnvironmentFile, the capabilities of
/// CapabilityBoundingSet and the open files of LimitNOFILE, as far as this machine allows them.
fn command(unit: &str) -> Result<Command, String> {
    let value = |key: &str| {
        let mut lines = unit.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let mut bounding = "-all".to_owned();
    for capability in value("CapabilityBoundingSet")
        .unwrap_or_default()
        .split(' ')
    {
        let name = capability.trim_start_matches("CAP_").to_lowercase();
        bounding.push_str(&format!(",+{name}"));
    }
    let words = value("ExecStart").ok_or("no ExecStart")?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    let limit = value("LimitNOFILE").and_then(|limit| limit.parse().ok());
    let limit = limit.map_or(hard, |limit: u64| limit.min(hard));
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nofile={limit}"))
        .args(["setpriv", "--no-new-privs"])
        .args(["--bounding-set", &bounding, "--"])
        .args(words.split_whitespace())
        .current_dir("/")
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
    if let Some(file) = value("EnvironmentFile") {
        // a dash in front: the file may be missing
        let text = fs::read_to_string(file.trim_start_matches('-')).unwrap_or_default();
        command.envs(variables(&text));
    }
    Ok(command)
}

fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim);
    let assignments = lines.filter(|line| !line.starts_with(['#', ';']));
    let pairs = assignments.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name, value.trim_matches(['"', '\''])))
}

fn wait_ready(socket: &UnixDatagram, child: &mut Child) -> Result<(), String> {
    let step = Some(Duration::from_millis(50));
    socket
        .set_read_timeout(step)
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + TIMEOUT;
    let mut message = [0; 4096];
    while Instant::now() < deadline {
        match socket.recv(&mut message) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if text.lines().any(|line| line == "READY=1") {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("the process ended: {status}"));
        }
    }
    Err("a timeout was exceeded".to_owned())
}

fn stop(unit: &str) -> Result<(), String> {
    let Some(pid) = running(unit) else {
        return Ok(());
    };
    kill(pid, Signal::SIGTERM).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + TIMEOUT;
    while running(unit).is_some() {
        if Instant::now() > deadline {
            return Err(format!("{unit} does not stop"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn pid_file(unit: &str) -> String {
    format!("{STATE}/{unit}.pid")
}

/// The process of a service, unless it has ended; nobody waits for it.
fn running(unit: &str) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file(unit)).ok()?.parse().ok()?;
    let status =
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let ended = status.lines().any(|line| line.starts_with("State:\tZ"));
    (!ended).then(|| Pid::from_raw(pid))
}
