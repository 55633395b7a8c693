//! The frame of every plugin: its answers to an invalid environment, an invalid configuration,
//! VERSION and a missing verb.

use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tests::{
    Cni, Host, Outcome, Process,
    binaries::{self, BIN},
    process::eventually,
    scenario,
};

const ALL: &str = "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0";

/// A valid call.
fn good() -> Cni {
    Cni::new(BIN, "c1", "/run/netns/pod")
}

fn config(version: &str) -> String {
    format!(r#"{{"cniVersion":"{version}","name":"net","type":"loopback"}}"#)
}

fn call(host: &Host, cni: &Cni, verb: &str, config: &str) -> Outcome {
    cni.call(host, verb, "loopback", config)
}

#[scenario]
fn missing_variables_are_listed_together() {
    let host = Host::with_suite("node");
    let bare = Cni {
        path: BIN.into(),
        env: Default::default(),
    };
    let missing = |verb, names| {
        let outcome = call(&host, &bare, verb, &config("1.1.0"));
        let msg = format!("required env variables [{names}] missing");
        assert_eq!(outcome.error(), (4, msg), "{verb}");
        // four spaces, no newline at the end, on stdout
        assert!(
            outcome
                .stdout
                .starts_with("{\n    \"code\": 4,\n    \"msg\": ")
        );
        assert!(outcome.stdout.ends_with("\"\n}"), "{outcome:?}");
    };
    missing("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH");
    missing("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH");
    missing("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH");
    missing("GC", "CNI_PATH");
    missing("STATUS", "CNI_PATH");
    for word in ["add", "ADD ", "REMOVE"] {
        let outcome = call(&host, &good(), word, &config("1.1.0"));
        assert_eq!(outcome.error(), (4, format!("unknown CNI_COMMAND: {word}")));
    }
    // the configuration is checked before the verb
    assert_eq!(call(&host, &good(), "REMOVE", "{").error().0, 6);
    assert_eq!(call(&host, &good(), "REMOVE", "{}").error().0, 7);
}

#[scenario]
fn malformed_ids_and_names_are_refused() {
    let host = Host::with_suite("node");
    let long = "x".repeat(4096);
    for id in [
        "../c1",
        "c/1",
        ".c1",
        "-c1",
        "c1\n",
        "c 1",
        "c\u{e9}",
        "@",
        &long.replace('x', "/"),
    ] {
        for verb in ["ADD", "CHECK", "DEL"] {
            let cni = good().with("CNI_CONTAINERID", id);
            let outcome = call(&host, &cni, verb, &config("1.1.0"));
            assert_eq!(
                outcome.error(),
                (4, "invalid characters in containerID".into()),
                "{id:?}"
            );
            assert_eq!(outcome.json()["details"], id);
        }
    }
    for (ifname, msg) in [
        ("sixteencharacter", "interface name is too long"),
        (".", "interface name is . or .."),
        ("..", "interface name is . or .."),
        (
            "a/b",
            "interface name contains / or : or whitespace characters",
        ),
        (
            "a:b",
            "interface name contains / or : or whitespace characters",
        ),
        (
            "a\u{2003}b",
            "interface name contains / or : or whitespace characters",
        ),
    ] {
        let cni = good().with("CNI_IFNAME", ifname);
        let outcome = call(&host, &cni, "DEL", &config("1.1.0"));
        assert_eq!(outcome.error(), (4, msg.into()), "{ifname:?}");
    }
    // verbs without a container ignore its variables
    let cni = good()
        .with("CNI_CONTAINERID", "../c1")
        .with("CNI_IFNAME", "a/b");
    call(&host, &cni, "GC", &config("1.1.0")).ok();
    call(&host, &cni, "STATUS", &config("1.1.0")).ok();
}

#[scenario]
fn malformed_configuration_is_refused() {
    let host = Host::with_suite("node");
    for text in [
        "",
        "{",
        "null x",
        "[]",
        "\"net\"",
        "{\"name\":",
        "{\"name\":1}",
        "{\"name\":[\"net\"]}",
        "\u{0}",
    ] {
        for verb in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
            let (code, msg) = call(&host, &good(), verb, text).error();
            assert_eq!(code, 6, "{text:?}: {msg}");
            assert!(
                msg.starts_with("error unmarshall network config: "),
                "{text:?}: {msg}"
            );
        }
    }
    for text in ["{}", "null", "{\"name\":\"\"}", "{\"name\":null}"] {
        let outcome = call(&host, &good(), "ADD", text);
        assert_eq!(
            outcome.error(),
            (7, "missing network name".into()),
            "{text:?}"
        );
    }
    for name in ["../net", "a/b", ".net", "n t"] {
        let text = format!(r#"{{"cniVersion":"1.1.0","name":"{name}"}}"#);
        let outcome = call(&host, &good(), "DEL", &text);
        assert_eq!(
            outcome.error(),
            (7, "invalid characters found in network name".into())
        );
        assert_eq!(outcome.json()["details"], name);
    }
    // deep nesting is an error and not a stack overflow
    let deep = format!("{}{}", r#"{"name":"net","x":"#, "[".repeat(1 << 20));
    assert_eq!(call(&host, &good(), "ADD", &deep).error().0, 6);
    let pod = host.pod("pod");
    let odd =
        r#"{"NAME":"other","name":"net","CniVersion":"1.0.0","unknown":{"a":[1]},"dns":null}"#;
    call(&host, &Cni::new(BIN, "c1", &pod.path()), "ADD", odd).ok();
}

#[scenario]
fn unsupported_versions_are_refused() {
    let host = Host::with_suite("node");
    let outcome = call(&host, &good(), "ADD", &config("9.9.9"));
    assert_eq!(outcome.error(), (1, "incompatible CNI versions".into()));
    let quoted = ALL.replace(", ", "\" \"");
    assert_eq!(
        outcome.json()["details"],
        format!("config is \"9.9.9\", plugin supports [\"{quoted}\"]")
    );
    for (verb, version, msg) in [
        ("CHECK", "0.3.1", "config version does not allow CHECK"),
        ("CHECK", "", "config version does not allow CHECK"),
        ("GC", "1.0.0", "config version does not allow GC"),
        ("STATUS", "1.0.0", "config version does not allow STATUS"),
        ("CHECK", "9.9.9", "plugin version does not allow CHECK"),
        ("GC", "1.2.0", "plugin version does not allow GC"),
    ] {
        let outcome = call(&host, &good(), verb, &config(version));
        assert_eq!(outcome.error(), (1, msg.into()), "{version}");
    }
    assert_eq!(call(&host, &good(), "GC", &config("one")).error().0, 6);
}

/// A runtime that never stops writing does not exhaust the node's memory.
#[scenario]
fn endless_stdin_is_refused() {
    let host = Host::with_suite("node");
    let outcome = host.run(|| {
        Command::new("sh")
            .args(["-c", "yes | head -c 100000000 | /opt/cni/bin/loopback"])
            .env("CNI_COMMAND", "STATUS")
            .env("CNI_PATH", BIN)
            .output()
            .expect("sh")
    });
    let json: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("an error");
    assert_eq!(json["code"], 5);
    let msg = json["msg"].as_str().expect("msg");
    assert!(msg.starts_with("error reading from stdin: "), "{msg}");
}

#[scenario]
fn version_answers_while_stdin_is_open() {
    let host = Host::with_suite("node");
    let command = || {
        let mut command = Command::new(format!("{BIN}/loopback"));
        command.env_clear().env("CNI_COMMAND", "VERSION");
        command
    };
    let quoted = ALL.replace(", ", "\",\"");
    let expected = format!("{{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"{quoted}\"]}}\n");
    let mut child = host.run(|| {
        command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("plugin")
    });
    // its stdin stays open until it has answered
    let stdin = child.stdin.take();
    eventually("VERSION answers", Duration::from_secs(5), || {
        child.try_wait().expect("wait")
    });
    drop(stdin);
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    // an invalid stdin does not matter
    let cni = good();
    assert_eq!(call(&host, &cni, "VERSION", "{").ok().stdout, expected);
}

#[scenario]
fn without_a_command_versions_are_printed() {
    let host = Host::with_suite("node");
    for arguments in ["", "version", "--help"] {
        let output = host.try_sh(&format!("exec {BIN}/loopback {arguments} </dev/null"));
        assert!(output.status.success());
        assert!(output.stdout.is_empty());
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!(
                "CNI loopback plugin v{}\nCNI protocol versions supported: {ALL}\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}

#[scenario]
fn missing_namespace_fails_add_but_not_del() {
    let host = Host::with_suite("node");
    host.sh("mkdir -p /run/netns && touch /run/netns/left-over");
    for (path, msg) in [
        (
            "/run/netns/gone",
            "failed to Statfs \"/run/netns/gone\": no such file or directory",
        ),
        (
            "/run/netns/left-over",
            "unknown FS magic on \"/run/netns/left-over\": ",
        ),
    ] {
        let cni = Cni::new(BIN, "c1", path);
        let (code, error) = call(&host, &cni, "ADD", &config("1.0.0")).error();
        assert_eq!(code, 999);
        assert!(error.contains(msg), "{error}");
        call(&host, &cni, "DEL", &config("1.0.0")).ok();
    }
    call(&host, &Cni::new(BIN, "c1", ""), "DEL", &config("1.0.0")).ok();
}

/// The plugin's own namespace is that of the host: nothing in it may change.
#[scenario]
fn own_namespace_is_refused_and_unchanged() {
    let host = Host::with_suite("node");
    host.sh("ip link set lo down");
    let up = || host.sh("ip -o link show lo").contains("LOOPBACK,UP");
    let own = (
        8,
        "plugin's netns and netns from CNI_NETNS should not be the same".to_owned(),
    );
    host.sh("mkdir -p /run/netns && touch /run/netns/own && mount --bind /proc/self/ns/net /run/netns/own");
    for path in ["/proc/self/ns/net", "/run/netns/own"] {
        let cni = Cni::new(BIN, "c1", path);
        assert_eq!(call(&host, &cni, "ADD", &config("1.0.0")).error(), own);
        assert!(!up(), "ADD changed lo before it refused");
        let twice = cni.clone().with("CNI_NETNS_OVERRIDE", "0");
        assert_eq!(call(&host, &twice, "ADD", &config("1.0.0")).error(), own);
    }
    for word in ["1", "true", "TRUE"] {
        let cni = Cni::new(BIN, "c1", "/run/netns/own").with("CNI_NETNS_OVERRIDE", word);
        call(&host, &cni, "ADD", &config("1.0.0")).ok();
        assert!(up());
    }
    let cni = Cni::new(BIN, "c1", "/run/netns/own");
    assert_eq!(call(&host, &cni, "DEL", &config("1.0.0")).error(), own);
    assert!(up(), "DEL took down the host's lo");
}

#[scenario]
fn unwritable_result_is_a_failure() {
    let host = Host::with_suite("node");
    let pod = host.pod("pod");
    let output = host.try_sh(&format!(
        "printf '%s' '{}' | CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS={} CNI_IFNAME=lo CNI_PATH={BIN} {BIN}/loopback >/dev/full",
        config("1.0.0"),
        pod.path()
    ));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"));
}

#[scenario]
fn suite_runs_the_plugin_that_it_is_called_as() {
    let host = Host::with_suite("node");
    let suite = binaries::program("cni-suite");
    let run = |arguments: &str, environment: &[(&str, &str)]| {
        let mut command = Command::new(&suite);
        command.args(arguments.split_whitespace()).env_clear();
        command.envs(environment.iter().copied());
        let mut process = host.run(|| Process::start(command));
        let status = process.wait(Duration::from_secs(5));
        (status.code(), process.output())
    };
    let (code, about) = run("", &[]);
    assert_eq!(code, Some(0));
    for name in binaries::PLUGINS.iter() {
        assert!(about.contains(&format!("\n  {name}\n")), "{about}");
    }
    assert!(
        run("loopback", &[("CNI_COMMAND", "VERSION")])
            .1
            .starts_with("{\"cniVersion\"")
    );
    for flag in ["-h", "--help"] {
        assert_eq!(run(flag, &[]), (Some(0), about.clone()), "{flag}");
    }
    assert!(run("--version", &[]).1.starts_with("cni-suite 0."));
    let (code, output) = run("no-such", &[]);
    assert!(
        code == Some(2) && output.starts_with("no-such is not a plugin"),
        "{output}"
    );
    let by_a_runtime = run("", &[("CNI_COMMAND", "ADD")]);
    assert_eq!(by_a_runtime.0, Some(1));
}
