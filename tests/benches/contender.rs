//! The contenders: folders of plugins, each with a host of its own.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tests::{
    Host, binaries,
    peers::{GO_PLUGINS, built_from_go},
};

/// Our plugins: always the first contender.
pub(crate) const OURS: &str = "ours";
/// The Go plugins that `tests/peers/plugins/go.mod` pins.
const PINNED_GO: &str = "go-1.9.1";

/// A set of plugins.
#[derive(Clone)]
pub(crate) struct Contender {
    /// Name in the table.
    pub name: String,
    /// CNI_PATH
    pub path: PathBuf,
    /// The version that its bridge prints.
    pub about: String,
}

impl Contender {
    /// Ours (linked below `folder`), Debian's Go plugins, the Go plugins of `tests/peers/plugins`
    /// where they are built, and the folder that `$PEERS` names.
    pub(crate) fn all(folder: &Path) -> Vec<Contender> {
        let ours = folder.join("plugins");
        if ours.exists() {
            fs::remove_dir_all(&ours).expect("links of an earlier run");
        }
        binaries::install_suite(&ours);
        let mut contenders = vec![
            Contender::new(OURS, ours),
            Contender::new("go", GO_PLUGINS.into()),
        ];
        match built_from_go("plugins") {
            Ok(folder) => contenders.push(Contender::new(PINNED_GO, folder)),
            Err(reason) => println!("{PINNED_GO:12} left out: {reason}"),
        }
        if let Some(folder) = env::var_os("PEERS").map(PathBuf::from) {
            let name = folder.file_name().unwrap_or("peers".as_ref());
            let name = name.to_string_lossy().into_owned();
            contenders.push(Contender::new(&name, folder));
        }
        contenders
    }

    fn new(name: &str, path: PathBuf) -> Contender {
        Contender {
            name: name.to_owned(),
            about: about(&path),
            path,
        }
    }

    /// The path of a plugin.
    pub(crate) fn program(&self, plugin: &str) -> PathBuf {
        self.path.join(plugin)
    }

    /// Whether a plugin contains `word`: the name of a key or table that older versions do not
    /// have.
    pub(crate) fn supports(&self, plugin: &str, word: &str) -> bool {
        let program = fs::read(self.program(plugin)).expect("read plugin");
        self.name == OURS
            || program
                .windows(word.len())
                .any(|window| window == word.as_bytes())
    }

    /// A call of a plugin.
    pub(crate) fn call(
        &self,
        verb: &str,
        plugin: &str,
        id: &str,
        netns: &str,
        config: &str,
    ) -> Call {
        let mut command = Command::new(self.program(plugin));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
        ]);
        command.env("CNI_PATH", &self.path);
        Call {
            command,
            config: config.to_owned(),
        }
    }
}

fn about(path: &Path) -> String {
    let program = path.join("bridge");
    let output = Command::new(&program)
        .env_remove("CNI_COMMAND")
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    format!(
        "{} ({})",
        text.lines().next().unwrap_or("?"),
        path.display()
    )
}

/// A program with its input.
pub(crate) struct Call {
    /// The program with its environment.
    pub command: Command,
    /// stdin.
    pub config: String,
}

impl Call {
    /// Runs the program in the calling thread's namespaces; the time from start to end. Panics with
    /// its output if it fails.
    #[track_caller]
    pub(crate) fn timed(self) -> Duration {
        self.output().0
    }

    /// The same with the program's stdout.
    #[track_caller]
    pub(crate) fn output(mut self) -> (Duration, String) {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/");
        let start = Instant::now();
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let mut stdin = child.stdin.take().expect("stdin");
        // VERSION does not read stdin: EPIPE is expected
        let _ = stdin.write_all(self.config.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("wait");
        let time = start.elapsed();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{:?}\n{}\n{stdout}\n{}",
            self.command,
            self.config,
            String::from_utf8_lossy(&output.stderr)
        );
        (time, stdout)
    }
}

/// The numbers below `count`, from another one on in each round: the first contender of a round has
/// the coldest caches.
pub(crate) fn rotation(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |step| (round + step) % count)
}

/// A host for each contender.
pub(crate) fn hosts(contenders: &[Contender]) -> Vec<(&Contender, Host)> {
    contenders
        .iter()
        .map(|contender| (contender, Host::new(&contender.name)))
        .collect()
}

/// Makes `count` pod namespaces on a host; their paths.
pub(crate) fn pods(host: &Host, count: usize) -> Vec<String> {
    host.sh(&format!(
        "for i in $(seq {count}); do ip netns add pod$i; done"
    ));
    (1..=count)
        .map(|number| format!("/run/netns/pod{number}"))
        .collect()
}
