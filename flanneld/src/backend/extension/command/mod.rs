//! A command of the network configuration, and one run of it: in a process group of its own, with
//! a time limit, and with bounds for what it prints.

use crate::one_line::one_line;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use std::{
    env,
    ffi::OsString,
    fmt, io,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{self, ChildStdin},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// How much of each stream is kept, in bytes. The rest is read and dropped.
pub(super) const LONGEST_OUTPUT: usize = 64 << 10;
/// How long the output of a command is read after its end: what it left behind may hold the pipes
/// open for ever.
const AFTER_END: Duration = Duration::from_millis(200);
/// Lines of a failed command that are logged: the last ones say why.
const LOGGED_LINES: usize = 20;
/// Variables of the daemon that no command gets: its options, among them etcd's password, and what
/// the service manager gave to the daemon alone.
const WITHHELD: [&str; 7] = [
    "FLANNELD_",
    "NOTIFY_SOCKET",
    "LISTEN_",
    "WATCHDOG_",
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];

/// A command. Its text may have a password in it: no message and no `Debug` shows it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// A text for `sh -c`. The empty one means that there is no command.
    Shell(String),
    /// A program with its arguments, run without a shell.
    Program(Vec<String>),
}

/// Variables of a command, besides those of the daemon.
pub(super) type Variables = Vec<(&'static str, String)>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The program is absent or not executable.
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    /// It ended with an error.
    #[error("{status}{}", last_line(output))]
    Status { status: ExitStatus, output: String },
    /// It was killed with everything that it had started.
    #[error("killed after {} s (Backend.CommandTimeout){}", limit.as_secs(), last_line(output))]
    Timeout { limit: Duration, output: String },
    /// The system does not tell how it ended.
    #[error("cannot wait for it: {0}")]
    Wait(#[source] io::Error),
}

impl RunError {
    /// Logs the end of what the command printed, by line.
    pub(super) fn log_output(&self, key: &str) {
        let (RunError::Status { output, .. } | RunError::Timeout { output, .. }) = self else {
            return;
        };
        let lines: Vec<&str> = lines(output).collect();
        let first = lines.len().saturating_sub(LOGGED_LINES);
        if first > 0 {
            warn!("{key}: {first} lines of its output are left out");
        }
        for line in &lines[first..] {
            warn!("{key}: {}", one_line(line));
        }
    }
}

fn lines(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter(|line| !line.trim().is_empty())
}

fn last_line(output: &str) -> String {
    lines(output).last().map_or_else(String::new, |line| {
        let line = one_line(line);
        format!(": {line}")
    })
}

impl Command {
    /// True if there is something to run.
    pub(super) fn is_set(&self) -> bool {
        *self != Command::default()
    }

    fn process(&self) -> (process::Command, &str) {
        match self {
            Command::Shell(text) => {
                let mut command = process::Command::new("sh");
                command.args(["-c", text]);
                (command, "sh")
            }
            Command::Program(words) => {
                let (program, arguments) = words
                    .split_first()
                    .map_or(("", &[][..]), |(program, rest)| (program, rest));
                let mut command = process::Command::new(program);
                command.args(arguments);
                (command, program)
            }
        }
    }

    /// Runs the command with the variables and the text on its stdin. Returns what it wrote to
    /// stdout, without white space around it. When the future is dropped or the time is over, the
    /// command and what it started in its process group are killed.
    pub(super) async fn run(
        &self,
        variables: &Variables,
        stdin: &str,
        limit: Duration,
    ) -> Result<String, RunError> {
        let (mut command, program) = self.process();
        command
            .env_clear()
            .envs(inherited(env::vars_os()))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = |source| RunError::Start {
            program: one_line(program),
            source,
        };
        let mut child = command.spawn().map_err(start)?;
        // dropped before `child`, which is not waited for then: the group still exists
        let mut group = Group::of(&child);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (pipe, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut exchange = Box::pin(async {
            tokio::join!(
                feed(pipe, stdin),
                keep_start(out, &mut stdout),
                keep_start(err, &mut stderr)
            );
        });
        let mut is_read = false;
        let time_is_over = sleep(limit);
        tokio::pin!(time_is_over);
        let status = loop {
            tokio::select! {
                () = &mut exchange, if !is_read => is_read = true,
                status = child.wait() => break Some(status),
                () = &mut time_is_over => break None,
            }
        };
        if status.is_none() {
            group.kill();
        } else {
            // what it left behind on purpose goes on
            group.release();
        }
        if !is_read && timeout(AFTER_END, &mut exchange).await.is_err() {
            debug!("a command left processes behind that hold its output open");
        }
        drop(exchange);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let output = || format!("{}\n{}", text(&stdout), text(&stderr));
        match status {
            None => Err(RunError::Timeout {
                limit,
                output: output(),
            }),
            Some(Err(error)) => Err(RunError::Wait(error)),
            Some(Ok(status)) if !status.success() => Err(RunError::Status {
                status,
                output: output(),
            }),
            Some(Ok(_)) => Ok(text(&stdout)),
        }
    }
}

impl Default for Command {
    fn default() -> Self {
        Command::Shell(String::new())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "set" } else { "not set" })
    }
}

/// The variables of the daemon that commands get.
fn inherited(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    variables.filter(|(name, _)| {
        let name = name.as_encoded_bytes();
        !WITHHELD
            .iter()
            .any(|prefix| name.starts_with(prefix.as_bytes()))
    })
}

/// A process group of a command.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &process::Child) -> Group {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Group(id.map(Pid::from_raw))
    }

    /// Kills every process of it.
    fn kill(&mut self) {
        if let Some(group) = self.0.take()
            && let Err(error) = killpg(group, Signal::SIGKILL)
        {
            debug!("cannot kill the process group {group}: {error}");
        }
    }

    /// Leaves its processes alone.
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command need not read its stdin.
async fn feed(pipe: Option<ChildStdin>, text: &str) {
    let Some(mut pipe) = pipe else { return };
    if let Err(error) = pipe.write_all(text.as_bytes()).await {
        debug!("a command did not read its stdin: {error}");
    }
}

/// Reads to the end and keeps the start.
async fn keep_start(pipe: Option<impl AsyncRead + Unpin>, start: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => {
                let room = LONGEST_OUTPUT.saturating_sub(start.len());
                start.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(error) => {
                debug!("cannot read the output of a command: {error}");
                return;
            }
        }
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Command, E> {
        Ok(Command::default())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Command, E> {
        check(text)?;
        // upstream: a command of white space alone is none
        let text = if text.trim().is_empty() { "" } else { text };
        Ok(Command::Shell(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Command, A::Error> {
        let mut words = Vec::<String>::new();
        while let Some(word) = list.next_element::<String>()? {
            check(&word)?;
            words.push(word);
        }
        if words
            .first()
            .is_none_or(|program| program.trim().is_empty())
        {
            return Err(de::Error::custom(
                "the list names no program; leave the key out if nothing is to be run",
            ));
        }
        Ok(Command::Program(words))
    }
}

fn check<E: de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') {
        return Err(E::custom("a NUL character, which no command can have"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
