//! A program in the background.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    env,
    fs::{self, File},
    io,
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

/// Between two looks of [`eventually`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A time limit for this machine: `$DEADLINE_FACTOR` times as long, for machines that are slow.
/// [`eventually`] and [`Process::wait`] apply it themselves.
pub fn deadline(limit: Duration) -> Duration {
    limit * slowness()
}

/// `$DEADLINE_FACTOR`, or 1.
pub fn slowness() -> u32 {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| match env::var("DEADLINE_FACTOR") {
        Ok(factor) => factor.parse().expect("DEADLINE_FACTOR is a number"),
        Err(_) => 1,
    });
    *FACTOR
}

/// So many of the last lines of each program are printed when a test fails.
const LINES_ON_FAILURE: usize = 40;

/// A running program; dropping it kills it, and prints the end of its output if the test fails.
/// stdout and stderr go to a file that [`Process::output`] reads.
pub struct Process {
    /// The program and its arguments.
    command: String,
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Process {
    /// Starts it in the calling thread's namespaces.
    pub fn start(mut command: Command) -> Process {
        let log = tempfile::Builder::new()
            .tempfile_in("/dev/shm")
            .expect("log file");
        let sink = || {
            Stdio::from(
                File::options()
                    .append(true)
                    .open(log.path())
                    .expect("log file"),
            )
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(sink())
            .stderr(sink())
            .spawn();
        Process {
            child: child.unwrap_or_else(|error| panic!("start {command:?}: {error}")),
            command: format!("{command:?}"),
            log,
        }
    }

    /// Without the answers to pings: [`crate::Pings`] counts these.
    fn print_end_of_output(&self) {
        // a second panic would end the test program
        let output = self.log().unwrap_or_else(|error| error.to_string());
        let lines = output.lines().filter(|line| !line.contains(" bytes from "));
        let lines: Vec<_> = lines.collect();
        let (_, end) = lines.split_at(lines.len().saturating_sub(LINES_ON_FAILURE));
        eprintln!("the last lines of {}:\n{}", self.command, end.join("\n"));
    }

    /// The process id in the sandbox's pid namespace.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// stdout and stderr so far.
    pub fn output(&self) -> String {
        self.log().expect("log file")
    }

    fn log(&self) -> io::Result<String> {
        let text = fs::read(self.log.path())?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal");
    }

    /// Waits until the program exits; panics after `timeout`.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let timeout = deadline(timeout);
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(
                Instant::now() < end,
                "still running after {timeout:?}; output:\n{}",
                self.output()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print_end_of_output();
        }
        // both fail when the program has exited by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until `f` returns a value; panics with `what` after `timeout`. Waits as long as `f` took,
/// within limits: programs that look may need more time of the processor than what they look at.
#[track_caller]
pub fn eventually<T>(what: &str, timeout: Duration, mut f: impl FnMut() -> Option<T>) -> T {
    let timeout = deadline(timeout);
    let end = Instant::now() + timeout;
    loop {
        let start = Instant::now();
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < end, "not within {timeout:?}: {what}");
        thread::sleep(start.elapsed().clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
}
