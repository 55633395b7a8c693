//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{Call, Environment, Verb, environment, identity};
use cni_conf::Version;

fn environment(command: &str, args: &str) -> Environment {
    Environment {
        command: command.to_owned(),
        container_id: "c1".to_owned(),
        netns: "/run/netns/c1".to_owned(),
        ifname: "eth0".to_owned(),
        args: args.to_owned(),
        path: "/opt/cni/bin".into(),
        ..Environment::default()
    }
}

/// The calls that CNI_ARGS, a line feed, and stdin make: one for each verb that accepts them. DEL
/// accepts what ADD accepts.
pub fn calls(bytes: &[u8]) -> Vec<Call> {
    let at = bytes.iter().position(|byte| *byte == b'\n');
    let (args, config) = bytes.split_at(at.unwrap_or(0));
    let args = String::from_utf8_lossy(args);
    let call = |verb: &Verb| {
        let environment = environment(verb.as_str(), &args);
        Call::new(environment, config.to_vec(), Version::ALL, &[])
    };
    let calls = [Verb::Add, Verb::Check, Verb::Del, Verb::Gc, Verb::Status];
    let calls = calls.map(|verb| call(&verb));
    if let [Ok(_), _, del, ..] = &calls {
        assert!(del.is_ok(), "ADD accepts what DEL refuses: {del:?}");
    }
    let calls = calls.into_iter().filter_map(Result::ok);
    calls
        .inspect(|call| {
            call.valid_attachments();
            call.attachment();
        })
        .collect()
}

/// True for a call of DEL, which needs no more of the configuration than where things are.
pub fn is_del(call: &Call) -> bool {
    call.verb == Verb::Del
}

/// The variables of a call, `NAME=VALUE` a line. Every one that is accepted fits the names of
/// files, devices and rules that plugins make of it.
pub fn variables(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let value = lines.find(|(key, _)| *key == name);
        value.map_or(String::new(), |(_, value)| value.to_owned())
    };
    let environment = Environment {
        command: value("CNI_COMMAND"),
        container_id: value("CNI_CONTAINERID"),
        netns: value("CNI_NETNS"),
        ifname: value("CNI_IFNAME"),
        args: value("CNI_ARGS"),
        path: value("CNI_PATH").into(),
        netns_override: value("CNI_NETNS_OVERRIDE"),
        depth: value(environment::DEPTH).parse().unwrap_or(0),
    };
    environment.path();
    environment.overrides_netns();
    if environment.check().is_ok() && environment.verb().is_some_and(Verb::names_container) {
        for id in [&environment.container_id, &environment.ifname] {
            let is_name = !id.contains(|c: char| c.is_whitespace() || c == '/');
            assert!(is_name && !matches!(id.as_str(), "" | "." | ".."), "{id:?}");
        }
    }
    drop(cni_conf::args::load(&environment.args, &["IP", "MAC"]));
}

/// An executable, in which the build id is looked for.
pub fn executable(bytes: &[u8]) {
    if let Some(id) = identity::build_id(bytes) {
        assert!(!id.is_empty() && id.len() <= bytes.len());
    }
}
