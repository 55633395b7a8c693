//! Executes a plugin (CNI spec section 4; upstream: pkg/invoke RawExec).

use cni_conf::{Code, Error};
use nix::errno::Errno;
use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

/// Delays between attempts to execute a file that is being written (ETXTBSY), in milliseconds. As
/// upstream, about 5 s in all.
const BUSY_RETRY_DELAYS: [u64; 9] = [5, 10, 20, 50, 100, 300, 500, 1500, 2500];

/// Why a plugin returned no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such plugin, or the kernel refuses to execute it: nothing has run.
    #[error(transparent)]
    NotExecutable(Error),
    /// The plugin ran and failed, or it could not be started for a reason that passes.
    #[error(transparent)]
    Failed(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::NotExecutable(error) | Failure::Failed(error) => error,
        }
    }
}

/// Runs `program` with the environment of this process plus `variables`, and `config` on stdin.
/// Returns its stdout and forwards its stderr. Errors: what the program printed as its error, or
/// upstream's `netplugin failed ...` with code 0.
pub fn execute(
    program: &Path,
    variables: &[(&str, &OsStr)],
    config: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new(program);
    command
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let not_run = |error: &io::Error| {
        failed_without_error(&format!(
            "fork/exec {}: {}",
            program.display(),
            reason(error)
        ))
    };
    let child = start(&mut command).map_err(|error| match is_permanent(&error) {
        true => Failure::NotExecutable(not_run(&error)),
        false => Failure::Failed(not_run(&error)),
    })?;
    let output = write_and_wait(child, config).map_err(|error| Failure::Failed(not_run(&error)))?;
    if output.status.success() {
        forward(&output.stderr);
        return Ok(output.stdout);
    }
    if !output.stdout.is_empty() {
        forward(&output.stderr);
    }
    Err(Failure::Failed(failure(&output)))
}

/// True for the errors of execve(2) that depend on the file: it is absent, lacks a permission, or
/// is no program.
fn is_permanent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::EPERM | Errno::ENOEXEC)
    ) || matches!(errno, Some(Errno::ELOOP | Errno::ELIBBAD | Errno::EISDIR))
}

fn start(command: &mut Command) -> io::Result<Child> {
    for delay in BUSY_RETRY_DELAYS {
        match command.spawn() {
            Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) => {
                thread::sleep(Duration::from_millis(delay));
            }
            other => return other,
        }
    }
    command.spawn()
}

/// Writes stdin while stdout and stderr are read: sequentially, both sides could block.
fn write_and_wait(mut child: Child, config: &[u8]) -> io::Result<Output> {
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        let write = move || match stdin.map(|mut stdin| stdin.write_all(config)) {
            // a plugin that refuses its environment exits without reading
            Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                crate::warn(format_args!("writing a plugin's stdin: {error}"));
            }
            _ => {}
        };
        thread::Builder::new().spawn_scoped(scope, write)?;
        child.wait_with_output()
    })
}

fn forward(stderr: &[u8]) {
    // best effort: a closed stderr fails no plugin
    io::stderr().write_all(stderr).unwrap_or_default();
}

/// The error of a failed plugin.
fn failure(output: &Output) -> Error {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if let Some(error) = Error::from_json(&output.stdout) {
        return error;
    }
    if !stdout.is_empty() {
        return Error::new(
            Code::Unknown,
            format!(
                "netplugin failed but error parsing its diagnostic message {stdout:?}: not a CNI error"
            ),
        );
    }
    if output.stderr.is_empty() {
        return failed_without_error(&status(output.status));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Error::new(
        Code::Unknown,
        format!("netplugin failed: {stderr:?}: {}", status(output.status)),
    )
}

fn failed_without_error(why: &str) -> Error {
    Error::new(
        Code::Unknown,
        format!("netplugin failed with no error message: {why}"),
    )
}

/// In Go's wording: `exit status 1`, `signal: 9`.
fn status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The errno in Go's wording: `permission denied`.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => errno.desc().to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plugin");
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, file)
    }

    fn run(text: &str, config: &[u8]) -> Result<String, Error> {
        let (_dir, file) = script(text);
        execute(&file, &[("CNI_COMMAND", OsStr::new("ADD"))], config)
            .map(|stdout| String::from_utf8(stdout).unwrap())
            .map_err(Error::from)
    }

    #[test]
    fn environment_and_streams_are_passed() {
        assert_eq!(run("echo $CNI_COMMAND; cat", b"{}"), Ok("ADD\n{}".into()));
        let large = vec![b'x'; 1 << 20];
        assert_eq!(run("cat", &large).unwrap().len(), large.len());
        assert_eq!(run("exit 0", &large), Ok(String::new()));
    }

    #[test]
    fn failures_have_upstreams_wording() {
        let message = |text| {
            let error = run(text, b"").unwrap_err();
            (error.code, error.msg)
        };
        assert_eq!(
            message(r#"echo '{"code":11,"msg":"later","details":"d"}'; exit 1"#),
            (11, "later".into())
        );
        assert_eq!(
            message("exit 3"),
            (
                0,
                "netplugin failed with no error message: exit status 3".into()
            )
        );
        assert_eq!(
            message("printf oops >&2; exit 2"),
            (0, r#"netplugin failed: "oops": exit status 2"#.into())
        );
        assert!(
            message("printf oops; exit 1")
                .1
                .contains(r#"diagnostic message "oops""#)
        );
        assert_eq!(
            message("kill -9 $$"),
            (
                0,
                "netplugin failed with no error message: signal: 9".into()
            )
        );
    }

    #[test]
    fn file_that_cannot_be_executed_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plugin");
        fs::write(&file, "").unwrap();
        let path = file.display();
        let refused = |why: &str| {
            let text = format!("netplugin failed with no error message: fork/exec {path}: {why}");
            Err(Failure::NotExecutable(Error::new(Code::Unknown, text)))
        };
        assert_eq!(execute(&file, &[], b""), refused("permission denied"));
        fs::write(&file, "no program").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(execute(&file, &[], b""), refused("exec format error"));
        fs::remove_file(&file).unwrap();
        assert_eq!(
            execute(&file, &[], b""),
            refused("no such file or directory")
        );
    }

    #[test]
    fn file_that_is_being_written_is_retried() {
        let (_dir, file) = script("echo done");
        let writer = fs::File::options().append(true).open(&file).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(40));
                drop(writer);
            });
            assert_eq!(execute(&file, &[], b""), Ok(b"done\n".to_vec()));
        });
    }
}
