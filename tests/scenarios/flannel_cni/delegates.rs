//! The configuration of the delegate, and its failures.

use super::node::{DUAL, Node, SUBNET_ENV, recorder};
use serde_json::{Value, json};
use tests::{binaries::BIN, scenario};

/// The output is that of the delegate.
#[scenario]
fn add_and_del_pass_the_same_configuration() {
    let node = Node::new();
    let mut conf = recorder(
        "1.0.0",
        json!({ "runtimeConfig": { "mac": "00:11:22:33:44:55" }, "args": {} }),
    );
    assert_eq!(
        node.call("ADD", "a", &conf).ok().stdout,
        "{ \"cniVersion\":\"1.1.0\" }"
    );
    let expected = concat!(
        r#"{"cniVersion":"1.0.0","ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.3.0/24"}],[{"subnet":"fd00:10:244:3::/64"}]],"#,
        r#""routes":[{"dst":"10.244.0.0/16"},{"dst":"fd00:10:244::/48"}],"type":"host-local"},"#,
        r#""mtu":1450,"name":"cbr0","runtimeConfig":{"mac":"00:11:22:33:44:55"},"type":"recorder"}"#
    );
    assert_eq!(node.recorded("ADD"), expected);
    assert_eq!(node.read("/var/lib/cni/flannel/a"), expected);
    // changes since ADD do not matter
    node.remove(SUBNET_ENV);
    conf["delegate"] = json!({ "type": "absent" });
    conf["runtimeConfig"] = Value::Null;
    node.cni("a")
        .with("CNI_NETNS", "")
        .call(&node.host, "DEL", "flannel", &conf.to_string())
        .ok();
    assert_eq!(node.recorded("DEL"), expected);
    assert_eq!(node.verbs(), ["ADD", "DEL"]);
    node.call("DEL", "a", &conf).ok();
    assert_eq!(node.verbs(), [""; 0]);
    node.assert_clean();
}

#[scenario]
fn each_network_has_a_route() {
    let node = Node::new();
    node.write(
        SUBNET_ENV,
        &DUAL.replace(
            "10.244.0.0/16",
            "10.244.0.0/16,192.168.0.0/16,10.244.0.0/16",
        ),
    );
    node.call(
        "ADD",
        "a",
        &recorder(
            "0.4.0",
            json!({ "ipam": { "routes": [{ "dst": "0.0.0.0/0" }] } }),
        ),
    )
    .ok();
    let recorded: Value = serde_json::from_str(&node.recorded("ADD")).expect("JSON");
    let networks = [
        "0.0.0.0/0",
        "10.244.0.0/16",
        "192.168.0.0/16",
        "fd00:10:244::/48",
    ];
    assert_eq!(
        recorded["ipam"]["routes"],
        json!(networks.map(|dst| json!({ "dst": dst })))
    );
}

#[scenario]
fn check_gc_and_status_are_delegated() {
    let node = Node::new();
    let conf = recorder(
        "1.1.0",
        json!({ "prevResult": { "cniVersion": "1.1.0", "ips": [{ "address": "10.244.3.9/24" }] },
        "cni.dev/valid-attachments": [{ "containerID": "a", "ifname": "eth0" }] }),
    );
    for verb in ["STATUS", "ADD", "CHECK", "GC"] {
        node.call(verb, "a", &conf).ok();
    }
    assert_eq!(node.verbs(), ["STATUS", "ADD", "CHECK", "GC"]);
    let recorded =
        |verb: &str| -> Value { serde_json::from_str(&node.recorded(verb)).expect("JSON") };
    assert_eq!(recorded("CHECK")["prevResult"], conf["prevResult"]);
    assert_eq!(recorded("STATUS"), recorded("ADD"));
    assert_eq!(
        recorded("GC")["cni.dev/valid-attachments"],
        conf["cni.dev/valid-attachments"]
    );
    assert_eq!(
        recorded("GC")["cni.dev/attachments"],
        conf["cni.dev/valid-attachments"]
    );
    for verb in ["STATUS", "CHECK", "GC"] {
        node.write(&format!("/run/fail-{verb}"), "");
        assert_eq!(
            node.call(verb, "a", &conf).error(),
            (107, "requested".into()),
            "{verb}"
        );
    }
    assert_eq!(node.states(), ["a", "a@eth0"]);
}

/// The delegate's DEL is called, and the error is that of its ADD.
#[scenario]
fn failed_add_is_undone() {
    let node = Node::new();
    let conf = recorder("1.0.0", json!({}));
    node.write("/run/fail-ADD", "");
    assert_eq!(
        node.call("ADD", "a", &conf).error(),
        (107, "requested".into())
    );
    assert_eq!(node.verbs(), ["ADD", "DEL"]);
    assert_eq!(node.recorded("DEL"), node.recorded("ADD"));
    node.assert_clean();
    // if its DEL fails too, the state stays for the DEL of the runtime
    node.write("/run/fail-DEL", "");
    assert_eq!(
        node.call("ADD", "a", &conf).error(),
        (107, "requested".into())
    );
    assert_eq!(node.states(), ["a", "a@eth0"]);
    node.remove("/run/fail-DEL");
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
    // an attachment that exists stays, with its state
    node.remove("/run/fail-ADD");
    node.call("ADD", "a", &conf).ok();
    let state = node.read("/var/lib/cni/flannel/a");
    node.verbs();
    node.write("/run/fail-ADD", "");
    node.write(SUBNET_ENV, &DUAL.replace("1450", "1400"));
    assert_eq!(node.call("ADD", "a", &conf).error().0, 107);
    assert_eq!(node.verbs(), ["ADD"]);
    assert_eq!(node.read("/var/lib/cni/flannel/a"), state);
}

#[scenario]
fn failed_del_keeps_the_state() {
    let node = Node::new();
    let conf = recorder("1.0.0", json!({}));
    node.call("ADD", "a", &conf).ok();
    node.write("/run/fail-DEL", "");
    for _ in 0..2 {
        assert_eq!(
            node.call("DEL", "a", &conf).error(),
            (107, "requested".into())
        );
        assert_eq!(node.states(), ["a", "a@eth0"]);
    }
    node.remove("/run/fail-DEL");
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}

#[scenario]
fn invalid_delegates_are_refused() {
    let node = Node::new();
    let mut conf = recorder("1.0.0", json!({}));
    for (delegate, message) in [
        (
            json!({ "type": "absent" }),
            "failed to find plugin \"absent\" in path [/opt/cni/bin]",
        ),
        (
            json!({ "type": "../../bin/sh" }),
            "invalid plugin name: ../../bin/sh",
        ),
        (json!({ "type": "" }), "no plugin name provided"),
        (
            json!({ "type": 5 }),
            "'delegate' dictionary, if present, must have (string) 'type' field",
        ),
        (
            json!({ "ipam": {} }),
            "'delegate' dictionary must not have 'ipam' field, it'll be set by flannel",
        ),
    ] {
        conf["delegate"] = delegate;
        assert_eq!(node.call("ADD", "a", &conf).error(), (999, message.into()));
    }
    conf["delegate"] = json!("bridge");
    let (code, message) = node.call("ADD", "a", &conf).error();
    assert_eq!(code, 6);
    assert!(message.starts_with("failed to load flannel netconf file: failed to load netconf: json: cannot unmarshal string into field delegate"), "{message}");
}

/// A delegate that cannot be executed has made nothing: an ADD leaves no state, and what another
/// version left does not stop DEL and GC. What the configuration names by now is called instead.
#[scenario]
fn delegate_that_cannot_be_executed_stops_neither_del_nor_gc() {
    let node = Node::new();
    let fixed = recorder("1.1.0", json!({}));
    node.write(&format!("{BIN}/no-program"), "no program");
    for (delegate, why) in [
        ("absent", "failed to find plugin \"absent\""),
        ("no-program", "permission denied"),
        ("flannel", "flannel cannot delegate to itself"),
    ] {
        let mut broken = fixed.clone();
        broken["delegate"] = json!({ "type": delegate });
        let (_, message) = node.call("ADD", "a", &broken).error();
        assert!(message.contains(why), "{message}");
        node.assert_clean();
        // as Go's ADD leaves it
        let saved = json!({ "cniVersion": "1.0.0", "name": "cbr0", "type": delegate, "ipam": {} });
        let leave =
            |id: &str| node.write(&format!("/var/lib/cni/flannel/{id}"), &saved.to_string());
        leave("a");
        if delegate != "flannel" {
            let del = node.call("DEL", "a", &broken).ok();
            assert!(del.stderr.contains(why), "{}", del.stderr);
            assert_eq!(node.states(), [""; 0]);
            leave("a");
        } else {
            assert_eq!(node.call("DEL", "a", &broken).error().0, 7);
        }
        node.call("DEL", "a", &fixed).ok();
        assert_eq!(node.verbs(), ["DEL"]);
        node.assert_clean();

        leave("x");
        for id in ["b", "c"] {
            node.call("ADD", id, &fixed).ok();
        }
        let mut gc = fixed.clone();
        gc["cni.dev/valid-attachments"] = json!([{ "containerID": "b", "ifname": "eth0" }]);
        let stderr = node.call("GC", "", &gc).ok().stderr;
        assert!(stderr.contains(why), "{stderr}");
        assert_eq!(node.verbs(), ["ADD", "ADD", "GC"]);
        assert_eq!(node.states(), ["b", "b@eth0"]);
        node.call("DEL", "b", &fixed).ok();
        node.verbs();
    }
}

/// The address of a pod is released also if the delegate's program was removed since ADD.
#[scenario]
fn del_without_the_delegates_program_releases_the_address() {
    let node = Node::new();
    let conf = super::node::conf("0.3.1", json!({}));
    let (pod, _) = node.attach("a", &conf);
    pod.delete();
    node.remove(&format!("{BIN}/bridge"));
    let del = node.call("DEL", "a", &conf).ok();
    assert!(del.stderr.contains("\"bridge\""), "{}", del.stderr);
    assert_eq!(node.states(), [""; 0]);
    assert_eq!(node.reservations(), [""; 0]);
}
