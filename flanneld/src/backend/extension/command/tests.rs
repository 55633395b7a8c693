//! Commands run for real: limits, bounds, and what they leave behind.

use super::*;
use go_compat::json;
use nix::sys::signal::kill;
use serde_json::json;
use std::{fs, path::Path, time::Instant};

const LIMIT: Duration = Duration::from_secs(20);

fn shell(text: &str) -> Command {
    Command::Shell(text.to_owned())
}

async fn run(command: Command, stdin: &str, limit: Duration) -> Result<String, RunError> {
    let variables = vec![("SUBNET", "10.3.2.0/24".to_owned())];
    command.run(&variables, stdin, limit).await
}

#[tokio::test]
async fn command_gets_variables_and_stdin_and_gives_its_output() {
    let both = "read line && echo; echo \" $SUBNET|$line $PWD \"; echo aside >&2";
    let output = run(shell(both), "data\n", LIMIT).await;
    assert_eq!(output.unwrap(), "10.3.2.0/24|data /");
    let words = ["printf", "%s", "$SUBNET;'a b'"];
    let list = Command::Program(words.map(str::to_owned).into());
    let output = run(list, "", LIMIT).await;
    assert_eq!(output.unwrap(), "$SUBNET;'a b'", "no shell");
}

#[tokio::test]
async fn failure_tells_status_and_last_line() {
    let failed = run(shell("echo out; echo why >&2; exit 3"), "", LIMIT).await;
    assert_eq!(failed.unwrap_err().to_string(), "exit status: 3: why");
    let absent = Command::Program(vec!["/nonexistent/tool".to_owned()]);
    let error = run(absent, "", LIMIT).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot start /nonexistent/tool: No such"),
        "{error}"
    );
}

#[tokio::test]
async fn group_of_a_hanging_command_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let text = format!("sleep 1000 & echo $! $$ > {}; wait", file.display());
    let start = Instant::now();
    let error = run(shell(&text), "", Duration::from_secs(1)).await;
    assert!(matches!(error, Err(RunError::Timeout { .. })), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_gone(&file).await;
}

#[tokio::test]
async fn group_of_a_dropped_run_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let text = format!("sleep 1000 & echo $! $$ > {}; wait", file.display());
    let written = async {
        while fs::read_to_string(&file).unwrap_or_default().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = run(shell(&text), "", LIMIT) => panic!("it hangs"),
        () = written => {}
    }
    assert_gone(&file).await;
}

async fn assert_gone(file: &Path) {
    let pids = fs::read_to_string(file).unwrap();
    for pid in pids.split_whitespace() {
        let stat = format!("/proc/{pid}/stat");
        let is_alive = || {
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        for _ in 0..1000 {
            if is_alive() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        assert!(!is_alive(), "process {pid} runs");
    }
}

#[tokio::test]
async fn what_a_command_leaves_behind_does_not_hold_it_up() {
    let start = Instant::now();
    let output = run(shell("sleep 1000 & echo $!"), "", LIMIT).await;
    let pid: i32 = output.unwrap().parse().unwrap();
    assert!(start.elapsed() < LIMIT);
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it was left alone");
}

#[tokio::test]
async fn output_is_bounded_and_stdin_need_not_be_read() {
    let stdin = "x".repeat(1 << 20);
    let output = run(
        shell("head -c 1000000 /dev/zero | tr '\\0' y"),
        &stdin,
        LIMIT,
    )
    .await;
    assert_eq!(output.unwrap().len(), LONGEST_OUTPUT);
}

#[test]
fn options_of_the_daemon_and_its_service_manager_are_withheld() {
    let names = [
        "PATH",
        "FLANNELD_ETCD_PASSWORD",
        "AWS_PROFILE",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
    ];
    let variables = names.map(|name| (name.into(), "x".into()));
    let kept: Vec<_> = inherited(variables.into_iter()).collect();
    let kept: Vec<_> = kept
        .iter()
        .map(|(name, _)| name.to_str().unwrap())
        .collect();
    assert_eq!(kept, ["PATH", "AWS_PROFILE"]);
}

#[test]
fn command_is_a_string_or_a_list() {
    let read = |value| json::from_value::<Command>(value).map_err(|error| error.to_string());
    assert_eq!(read(json!("a 'b c'")), Ok(shell("a 'b c'")));
    assert_eq!(read(json!("  ")), Ok(Command::default()));
    assert_eq!(read(json!(null)), Ok(Command::default()));
    let list = Command::Program(vec!["a".to_owned(), String::new()]);
    assert_eq!(read(json!(["a", ""])), Ok(list));
    for bad in [
        json!(7),
        json!({}),
        json!([]),
        json!([""]),
        json!([7]),
        json!("a\0b"),
    ] {
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
    assert_eq!(format!("{:?}", shell("password")), "set");
}
