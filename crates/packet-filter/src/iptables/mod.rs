//! iptables and ip6tables: one `iptables-restore --noflush` a change, which is all or nothing, and
//! one `iptables-save` a read. No process is started where no chain can exist.

mod programs;
mod saved;

pub use programs::{Flavour, Programs, Usage};
pub use saved::{Saved, Tables};
pub(crate) use saved::{parse, parse_tables};

use crate::{Error, Family, Nft};
use std::{
    env,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Searched after `PATH`.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Seconds to wait for the lock of the legacy variant (xtables.lock).
const LOCK_TIMEOUT: u32 = 60;
/// How often [`Iptables::change`] plans at most.
const CHANGE_ATTEMPTS: u32 = 50;

/// The programs of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iptables {
    ipv6: bool,
    /// between the name of the family and that of the program: "", "-nft" or "-legacy"
    infix: &'static str,
    /// how long a change waits for the lock of the legacy flavour, in seconds
    wait: u32,
}

impl Iptables {
    /// The programs of IPv4, or of IPv6.
    pub fn of(ipv6: bool) -> Self {
        Self {
            ipv6,
            infix: "",
            wait: LOCK_TIMEOUT,
        }
    }

    /// The same programs, whose changes wait for the lock of the legacy flavour for that many
    /// seconds.
    pub fn waiting(self, seconds: u32) -> Self {
        Self {
            wait: seconds,
            ..self
        }
    }

    /// `iptables-restore` is installed.
    pub fn is_installed(self) -> bool {
        find(&self.program("restore")).is_some()
    }

    /// False if neither variant can have the chain. Chains of the legacy variant cannot be listed
    /// without a process: a legacy table counts as having the chain if the program is installed.
    /// Err: whether there is such a chain cannot be found out.
    pub fn may_have_chain(
        self,
        nft: Option<&mut Nft>,
        table: &str,
        chain: &str,
    ) -> Result<bool, Error> {
        let legacy = self.legacy_tables()?;
        if legacy.iter().any(|name| name == table) && self.is_installed() {
            return Ok(true);
        }
        let family = if self.ipv6 { Family::Ip6 } else { Family::Ip };
        let Some(nft) = nft else { return Ok(false) };
        match nft.chains(family, table) {
            Ok(chains) => Ok(chains.iter().any(|found| found.name == chain)),
            Err(error) if error.is_absent() || error.is_unsupported() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The tables that the kernel has of the legacy variant in this namespace.
    pub fn legacy_tables(self) -> Result<Vec<String>, Error> {
        let list = match self.ipv6 {
            true => "/proc/net/ip6_tables_names",
            false => "/proc/net/ip_tables_names",
        };
        match std::fs::read_to_string(list) {
            // a kernel without the legacy variant has no such file
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::Run {
                program: list.to_owned(),
                source,
            }),
            Ok(names) => Ok(names.lines().map(str::to_owned).collect()),
        }
    }

    /// Changes one table, all or nothing. `lines` are those of a saved file: `:CHAIN - [0:0]`
    /// creates or empties a chain; `-A`, `-I`, `-D`, `-F`, `-X`. What they do not name stays.
    pub fn restore(self, table: &str, lines: &[String]) -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        self.restore_all(&[(table, lines.to_vec())])
    }

    /// Changes several tables by one process, each of them all or nothing, in this order. Those
    /// without lines stay as they are.
    pub fn restore_all(self, tables: &[(&str, Vec<String>)]) -> Result<(), Error> {
        let changed = tables.iter().filter(|(_, lines)| !lines.is_empty());
        let text: String = changed
            .map(|(table, lines)| format!("*{table}\n{}\nCOMMIT\n", lines.join("\n")))
            .collect();
        if text.is_empty() {
            return Ok(());
        }
        let wait = self.wait.to_string();
        let arguments = ["--noflush", "-w", &wait];
        self.run("restore", &arguments, Some(&text)).map(drop)
    }

    /// Reads one table.
    pub fn save(self, table: &str) -> Result<Saved, Error> {
        let output = self.run("save", &["-t", table], None)?;
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads every table that the kernel has; it makes none.
    pub fn save_all(self) -> Result<Tables, Error> {
        let output = self.run("save", &[], None)?;
        Ok(parse_tables(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Restores the lines that `plan` makes of the saved table, and plans again if another program
    /// changed the table meanwhile (the lines are then refused as a whole). Returns the table from
    /// before the change.
    pub fn change(self, table: &str, plan: impl Fn(&Saved) -> Vec<String>) -> Result<Saved, Error> {
        self.try_change(table, |saved| Ok(plan(saved)))
    }

    /// [`change`](Self::change) with a plan that can fail: then nothing is changed.
    pub fn try_change<E: From<Error>>(
        self,
        table: &str,
        plan: impl Fn(&Saved) -> Result<Vec<String>, E>,
    ) -> Result<Saved, E> {
        let (mut saved, mut attempts) = (self.save(table)?, 1);
        loop {
            let Err(error) = self.restore(table, &plan(&saved)?) else {
                return Ok(saved);
            };
            let now = self.save(table)?;
            // unchanged: the lines themselves are refused
            if now == saved || attempts == CHANGE_ATTEMPTS {
                return Err(error.into());
            }
            saved = now;
            attempts += 1;
        }
    }

    /// "iptables-restore", "ip6tables-save"
    fn program(self, what: &str) -> String {
        let name = if self.ipv6 { "ip6tables" } else { "iptables" };
        format!("{name}{}-{what}", self.infix)
    }

    fn run(self, what: &str, arguments: &[&str], input: Option<&str>) -> Result<Output, Error> {
        let name = self.program(what);
        let failed = |source| Error::Run {
            program: name.clone(),
            source,
        };
        let program = find(&name).ok_or_else(|| {
            let message = format!(
                "not found in PATH or {}: install iptables",
                FOLDERS.join(", ")
            );
            failed(std::io::Error::new(ErrorKind::NotFound, message))
        })?;
        let stdin = match input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), input) {
            match stdin.write_all(text.as_bytes()) {
                // it ended before it read everything; its standard error has the reason
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                other => other.map_err(failed)?,
            }
        }
        let output = child.wait_with_output().map_err(failed)?;
        match output.status.success() {
            true => Ok(output),
            false => Err(Error::Program {
                program: name.clone(),
                status: output.status.to_string(),
                complaint: complaint(&output.stderr, input),
            }),
        }
    }
}

/// The standard error of a failing program, and the line of its input that it complains about.
pub(crate) fn complaint(stderr: &[u8], input: Option<&str>) -> String {
    let text = String::from_utf8_lossy(stderr).trim().to_owned();
    let number = text
        .split_once("line")
        .map(|(_, rest)| rest.trim_start_matches([':', ' ']))
        .map(|rest| {
            rest.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        })
        .and_then(|digits| digits.parse::<usize>().ok());
    let line = number.and_then(|number| input?.lines().nth(number.checked_sub(1)?));
    match line {
        Some(line) => format!("{text} (line: {line})"),
        None => text,
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let known = FOLDERS.iter().map(PathBuf::from);
    env::split_paths(&path)
        .chain(known)
        .map(|folder| folder.join(program))
        .find(|file| file.is_absolute() && Path::is_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaint_includes_the_line() {
        let input = Some("*nat\n-A NOWHERE -j ACCEPT\nCOMMIT\n");
        for text in [
            "iptables-restore: line 2 failed",
            "Error occurred at line: 2",
        ] {
            assert_eq!(
                complaint(text.as_bytes(), input),
                format!("{text} (line: -A NOWHERE -j ACCEPT)")
            );
        }
        assert_eq!(
            complaint(b"Another app holds the lock", input),
            "Another app holds the lock"
        );
        assert_eq!(complaint(b"line 99", input), "line 99");
    }

    #[test]
    fn programs_are_named_by_family() {
        assert_eq!(Iptables::of(false).program("save"), "iptables-save");
        assert_eq!(Iptables::of(true).program("restore"), "ip6tables-restore");
        assert!(find("no-program-has-this-name").is_none());
    }
}
