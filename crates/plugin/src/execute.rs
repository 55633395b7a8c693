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

/// Runs `program` with the environment of this process plus `variables`, and `config` on stdin.
/// Returns its stdout and forwards its stderr. Errors: what the program printed as its error, or
/// upstream's `netplugin failed ...` with code 0.
pub fn execute(
    program: &Path,
    variables: &[(&str, &OsStr)],
    config: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut command = Command::new(program);
    command
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = start(&mut command)
        .and_then(|child| write_and_wait(child, config))
        .map_err(|error| {
            failed_without_error(&format!(
                "fork/exec {}: {}",
                program.display(),
                reason(&error)
            ))
        })?;
    if output.status.success() {
        forward(&output.stderr);
        return Ok(output.stdout);
    }
    if !output.stdout.is_empty() {
        forward(&output.stderr);
    }
    Err(failure(&output))
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
    fn file_without_permission_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plugin");
        fs::write(&file, "").unwrap();
        let error = execute(&file, &[], b"").unwrap_err();
        let path = file.display();
        assert_eq!(
            error.msg,
            format!("netplugin failed with no error message: fork/exec {path}: permission denied")
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
