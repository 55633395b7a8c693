//! The scripts of `deploy/extension` keep cloud's route tables: each against a fake of that cloud's
//! command line tool, and AWS's against moto's EC2.

mod metadata;
mod moto;
mod providers;
mod scripts;

use metadata::Metadata;
use providers::Provider;
use std::{fs, path::PathBuf, process::Output};
use tempfile::TempDir;
use tests::Host;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/extension");
const FAKES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/cloud/fakes");
const SUBNET: &str = "10.244.7.0/24";

/// Two instances, numbered from 1, each with its metadata service.
struct Cloud {
    provider: &'static Provider,
    nodes: Vec<Metadata>,
    /// The fake's state, which all instances share.
    folder: TempDir,
}

impl Cloud {
    fn new(provider: &'static Provider) -> Cloud {
        let cloud = Cloud {
            provider,
            nodes: [1, 2].map(|node| provider.metadata(node)).into(),
            folder: tempfile::tempdir_in("/dev/shm").expect("folder"),
        };
        cloud.set_state(provider.state);
        cloud
    }

    fn state_file(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn set_state(&self, lines: &[&str]) {
        fs::write(self.state_file(), format!("{}\n", lines.join("\n"))).expect("state");
    }

    fn add_state(&self, line: &str) {
        let text = fs::read_to_string(self.state_file()).expect("state");
        fs::write(self.state_file(), format!("{text}{line}\n")).expect("state");
    }

    /// Changes the lines of the state.
    fn edit_state(&self, edit: impl Fn(&str) -> Option<String>) {
        let text = fs::read_to_string(self.state_file()).expect("state");
        let lines: Vec<_> = text.lines().filter_map(edit).collect();
        fs::write(self.state_file(), format!("{}\n", lines.join("\n"))).expect("state");
    }

    fn routes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.state_file()).expect("state");
        let routes = text.lines().filter(|line| line.starts_with("route "));
        routes.map(str::to_owned).collect()
    }

    fn host(&self, node: usize) -> &Host {
        &self.nodes[node - 1].host
    }

    /// Runs the script on a node, with variables as flanneld gives them.
    fn script(&self, node: usize, verb: &str, public_ip: &str, variables: &str) -> Output {
        let Provider { script, server, .. } = self.provider;
        self.host(node).try_sh(&format!(
            "env -i PATH={FAKES}:/usr/local/bin:/usr/bin:/bin FAKE_STATE={} {server}={} PUBLIC_IP={public_ip} {variables} \
             {SCRIPTS}/{script} {verb}",
            self.state_file().display(),
            metadata::URL,
        ))
    }

    /// The same for [`SUBNET`], with success; what it printed.
    #[track_caller]
    fn run(&self, node: usize, verb: &str, public_ip: &str) -> String {
        let output = self.script(node, verb, public_ip, &format!("SUBNET={SUBNET}"));
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(output.status.success(), "{verb} on node {node}: {out}{err}");
        format!("{out}{err}")
    }

    /// The same with failure.
    #[track_caller]
    fn refused(&self, node: usize, verb: &str) -> String {
        let variables = format!("SUBNET={SUBNET}");
        let output = self.script(node, verb, &providers::address(node), &variables);
        assert!(!output.status.success(), "{verb} on node {node} succeeds");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}
