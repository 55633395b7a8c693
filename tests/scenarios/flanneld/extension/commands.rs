//! Commands that fail, hang, or ran before; what they are given, and which configurations are
//! refused.

use super::{eventually_has, idle, lines, start_all};
use crate::flanneld::cluster::{Cluster, TIMEOUT, delete, get};
use serde_json::{Value, json};
use std::{process::Command, thread, time::Duration};
use tests::{
    binaries::program,
    process::eventually,
    scenario,
    subnet_env::{eventually_pings, made_pod},
};

/// Every command leaves a line in /run/ran.
fn logged() -> Value {
    json!({
        "PreStartupCommand": "echo pre >> /run/ran; echo data",
        "PostStartupCommand": "echo post >> /run/ran",
        "SubnetAddCommand": "echo add $SUBNET >> /run/ran",
        "SubnetRemoveCommand": "echo remove $SUBNET $PUBLIC_IP $(cat) >> /run/ran",
    })
}

fn ran(cluster: &Cluster, peers: &[usize]) -> Vec<String> {
    let adds = peers
        .iter()
        .map(|peer| format!("add {}", cluster.subnet(*peer)));
    ["pre".to_owned(), "post".to_owned()]
        .into_iter()
        .chain(adds)
        .collect()
}

/// Neither after SIGTERM nor after SIGKILL; a peer that went meanwhile is removed.
#[scenario]
fn extension_restart_runs_nothing_again() {
    let mut cluster = idle(3, &logged());
    start_all(&mut cluster, 3);
    let mut expected = ran(&cluster, &[1, 3]);
    eventually_has(&cluster, 2, "/run/ran", &expected);
    cluster.stop(2);
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    // longer than until a success is on disk
    thread::sleep(Duration::from_millis(1500));
    cluster.kill(2);
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    eventually_has(&cluster, 2, "/run/ran", &expected);
    cluster.kill(2);
    cluster.stop(3);
    let subnet = cluster.subnet(3);
    let path = format!("/v1/_/leases/{}", subnet.replace('/', "-"));
    delete(cluster.host(1), "172.31.0.1:8888", &path);
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    expected.push(format!("remove {subnet} 172.31.0.3 data"));
    eventually_has(&cluster, 2, "/run/ran", &expected);
    let mode = cluster
        .host(2)
        .sh("stat -c %a /var/lib/flannel/node.commands.json");
    assert_eq!(mode.trim(), "600");
}

/// The record is of another boot.
#[scenario]
fn extension_reboot_runs_everything_again() {
    let mut cluster = idle(2, &logged());
    start_all(&mut cluster, 2);
    let once = ran(&cluster, &[1]);
    eventually_has(&cluster, 2, "/run/ran", &once);
    cluster.stop(2);
    cluster.host(2).sh(
        "sed -i 's/\"boot\":\"[^\"]*\"/\"boot\":\"earlier\"/' /var/lib/flannel/node.commands.json \
         && grep -q '\"boot\":\"earlier\"' /var/lib/flannel/node.commands.json",
    );
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    eventually_has(&cluster, 2, "/run/ran", &[once.clone(), once].concat());
}

/// It is not ready meanwhile, and says why; the other peer does not wait.
#[scenario]
fn extension_failing_command_is_run_again_until_it_succeeds() {
    let mut cluster = idle(
        3,
        &json!({
            "SubnetAddCommand": "test $PUBLIC_IP != 172.31.0.3 || test -e /run/repaired || { echo no such cloud >&2; exit 7; }; \
                ip route add $SUBNET via $PUBLIC_IP",
            "SubnetRemoveCommand": "ip route del $SUBNET",
        }),
    );
    for node in [1, 2] {
        cluster.host(node).sh("touch /run/repaired");
    }
    start_all(&mut cluster, 2);
    cluster.host(2).sh("rm /run/repaired");
    cluster.start(3, &[]);
    cluster.wait_ready(3);
    let third = cluster.subnet(3);
    eventually("the failure is reported", TIMEOUT, || {
        let answer = get(cluster.host(2), "/readyz?verbose");
        (answer.contains("1 entry failing") && answer.contains("exit status: 7: no such cloud"))
            .then_some(())
    });
    let second = cluster.pod(2);
    drop(cluster.pod(1));
    eventually_pings(&second, cluster.host(1));
    let log = cluster.daemon(2).output();
    let line = format!(
        "SubnetAddCommand for {third} failed: exit status: 7: no such cloud; running it again in"
    );
    assert!(log.contains(&line), "{log}");
    cluster.host(2).sh("touch /run/repaired");
    drop(cluster.pod(3));
    eventually_pings(&made_pod(cluster.host(2)), cluster.host(3));
    cluster.wait_ready(2);
}

/// With everything that it started.
#[scenario]
fn extension_hanging_command_is_killed_and_run_again() {
    let mut cluster = idle(
        2,
        &json!({
            "CommandTimeout": 1,
            "SubnetAddCommand": "test -e /run/hung || { touch /run/hung; sleep 4321 & echo $! $$ > /run/pids; wait; }; \
                ip route replace $SUBNET via $PUBLIC_IP",
        }),
    );
    start_all(&mut cluster, 2);
    drop(cluster.pod(1));
    let pod = cluster.pod(2);
    eventually_pings(&pod, cluster.host(1));
    drop(pod);
    for pid in cluster.host(2).sh("cat /run/pids").split_whitespace() {
        assert!(is_gone(&cluster, pid), "process {pid} runs");
    }
    let log = cluster.daemon(2).output();
    assert!(
        log.contains("failed: killed after 1 s (Backend.CommandTimeout)"),
        "{log}"
    );
}

/// SIGTERM ends the daemon while a command hangs, and the command with it.
#[scenario]
fn extension_signal_does_not_wait_for_a_command() {
    let mut cluster = idle(
        2,
        &json!({
            "SubnetAddCommand": "echo $$ > /run/pid; sleep 4321",
        }),
    );
    for node in [1, 2] {
        cluster.start(node, &[]);
    }
    let pid = eventually("the command runs", TIMEOUT, || {
        lines(&cluster, 2, "/run/pid").first().cloned()
    });
    assert!(get(cluster.host(2), "/readyz?verbose").contains("503 Service Unavailable"));
    cluster.stop(2);
    eventually("the command is killed", TIMEOUT, || {
        is_gone(&cluster, &pid).then_some(())
    });
}

/// True without such a process; nobody waits here for one that lost its parent.
fn is_gone(cluster: &Cluster, pid: &str) -> bool {
    let state = format!("grep '^State:' /proc/{pid}/status | grep -qv zombie");
    !cluster.host(2).try_sh(&state).status.success()
}

/// Until PreStartupCommand succeeds the daemon waits, and says so.
#[scenario]
fn extension_failing_preparation_is_told_and_repeated() {
    let mut cluster = idle(
        1,
        &json!({
            "PreStartupCommand": "test -e /run/repaired || { echo not yet; exit 1; }",
            "PostStartupCommand": "test -e /run/started",
        }),
    );
    cluster.start(1, &[]);
    eventually("it waits", TIMEOUT, || {
        get(cluster.host(1), "/readyz?verbose")
            .contains("waiting: for PreStartupCommand")
            .then_some(())
    });
    cluster.host(1).sh("touch /run/repaired");
    eventually("PostStartupCommand fails", TIMEOUT, || {
        get(cluster.host(1), "/readyz?verbose")
            .contains("PostStartupCommand: exit status: 1")
            .then_some(())
    });
    cluster.host(1).sh("touch /run/started");
    cluster.wait_ready(1);
}

/// No descriptor of the daemon, and no secret.
#[scenario]
fn extension_commands_inherit_neither_descriptors_nor_options() {
    let mut cluster = idle(
        1,
        &json!({
            "PostStartupCommand": "env | cut -d= -f1 > /run/variables; ls /proc/self/fd > /run/descriptors",
        }),
    );
    let env = [
        ("FLANNELD_ETCD_PASSWORD", "secret"),
        ("NOTIFY_SOCKET", "/run/nobody"),
        ("AWS_PROFILE", "nodes"),
    ];
    cluster.start_with(1, &[], &env);
    cluster.wait_ready(1);
    let variables = lines(&cluster, 1, "/run/variables");
    for (name, is_there) in [
        ("FLANNELD_ETCD_PASSWORD", false),
        ("NOTIFY_SOCKET", false),
        ("AWS_PROFILE", true),
        ("PATH", true),
    ] {
        let found = variables.iter().any(|found| found == name);
        assert_eq!(found, is_there, "{name}: {variables:?}");
    }
    // what started the tests may have left some open
    let left_open = cluster.host(1).sh("ls /proc/self/fd | sort");
    let descriptors = lines(&cluster, 1, "/run/descriptors");
    assert_eq!(descriptors, left_open.lines().collect::<Vec<_>>());
}

/// With text that names the key, before anything is made.
#[scenario]
fn extension_refused_keys_are_named() {
    for (backend, text) in [
        (
            json!({"SubnetAddCommand": {"run": "x"}}),
            "cannot unmarshal object into field SubnetAddCommand of type string or a list of strings",
        ),
        (
            json!({"PreStartupCommand": []}),
            "PreStartupCommand: the list names no program",
        ),
        (
            json!({"CommandTimeout": 86400}),
            "Backend.CommandTimeout 86400 is too long",
        ),
    ] {
        let cluster = idle(1, &backend);
        let mut command = Command::new(program("flanneld"));
        command.args([
            "-listen=127.0.0.1:8888",
            "-net-config-path=/run/net-conf.json",
        ]);
        let output = cluster.host(1).run(|| command.output().expect("flanneld"));
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(text), "{backend}: {log}");
    }
    let cluster = idle(1, &json!({"SubnetAddComand": "x"}));
    let checked = cluster.host(1).sh(&format!(
        "{} check-config /run/net-conf.json 2>&1",
        program("flanneld").display()
    ));
    assert!(
        checked.contains("Backend.SubnetAddComand has no effect"),
        "{checked}"
    );
}

/// The changed command takes back what the former one did; the new text is not in the log.
#[scenario]
fn extension_changed_command_is_applied_while_the_node_runs() {
    let mut cluster = idle(2, &logged());
    start_all(&mut cluster, 2);
    eventually_has(&cluster, 2, "/run/ran", &ran(&cluster, &[1]));
    let mut backend = logged();
    backend["SubnetAddCommand"] = "echo token-of-a-cloud; echo plus $SUBNET >> /run/ran".into();
    super::write(&cluster, &backend, false);
    let subnet = cluster.subnet(1);
    let mut expected = ran(&cluster, &[1]);
    expected.push(format!("remove {subnet} 172.31.0.1 data"));
    expected.push(format!("plus {subnet}"));
    eventually_has(&cluster, 2, "/run/ran", &expected);
    cluster.wait_ready(2);
    let log = cluster.daemon(2).output();
    assert!(log.contains("Backend.SubnetAddCommand"), "{log}");
    assert!(!log.contains("token-of-a-cloud"), "{log}");
}
