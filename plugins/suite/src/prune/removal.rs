//! Removes what is judged to be gone: by DEL of the plugins, as the runtime should have done.

use super::{inventory::Rules, judge::Gone, options::Options, report::Report};
use plugin::Attachment;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
};

/// The usual folder of the plugins, where the delegates of state files are.
const BIN_DIR: &str = "/opt/cni/bin";
const OWN: &str = "/proc/self/exe";
/// The plugins that are chained after the one that makes the interface, in the order of DEL.
const CHAINED: [&str; 4] = ["firewall", "tuning", "bandwidth", "portmap"];

/// The removal, and where it says what it did.
#[derive(Debug)]
pub(super) struct Removal<'r> {
    options: &'r Options,
    report: &'r mut Report,
}

impl<'r> Removal<'r> {
    pub(super) fn new(options: &'r Options, report: &'r mut Report) -> Removal<'r> {
        Removal { options, report }
    }

    pub(super) fn remove(mut self, gone: &[Gone], rules: Rules) {
        for one in gone {
            self.attachment(one);
        }
        self.rules(&rules);
        self.indexes();
    }

    fn attachment(&mut self, gone: &Gone) {
        if self.options.dry_run {
            return self.report.removed(gone);
        }
        for (plugin, config) in calls(gone, &self.options.data_dir) {
            if let Err(error) = del(plugin, &gone.owner, &config) {
                return self.report.failed(gone, format_args!("{plugin}: {error}"));
            }
        }
        self.report.removed(gone);
    }

    fn rules(&mut self, rules: &Rules) {
        let dry_run = self.options.dry_run;
        let Rules { portmap, bridge } = rules;
        let kinds = [
            (
                "host ports to",
                portmap.addresses(),
                match dry_run {
                    true => Ok(()),
                    false => portmap.remove(),
                },
            ),
            (
                "masquerade rules of",
                bridge.addresses(),
                match dry_run {
                    true => Ok(()),
                    false => bridge.remove(),
                },
            ),
        ];
        for (what, addresses, removed) in kinds {
            match removed {
                Err(error) => self.report.failed(what, error),
                Ok(()) => {
                    for ip in addresses {
                        let no_one = "no network namespace has the address";
                        self.report.removed(format_args!("{what} {ip}: {no_one}"));
                    }
                }
            }
        }
    }

    /// What only these plugins read.
    fn indexes(&mut self) {
        let Options {
            dry_run,
            data_dir,
            uninstall,
        } = self.options;
        if *dry_run {
            return;
        }
        let networks = data_dir.join("networks");
        match host_local::remove_indexes(&networks, *uninstall) {
            Err(error) => self.report.failed("host-local's index", error),
            Ok(removed) => {
                for network in removed {
                    self.report
                        .removed(format_args!("host-local's index of network {network}"));
                }
            }
        }
        if !uninstall {
            return;
        }
        match flannel_cni::leave_to_upstream(&data_dir.join("flannel")) {
            Err(error) => self.report.failed("second names of state files", error),
            Ok(0) => {}
            Ok(count) => self.report.removed(format_args!(
                "the second names of {count} state files; the first ones, which Go's plugin reads, stay"
            )),
        }
    }
}

/// The plugins to call, each with its configuration. The one that made the interface releases the
/// address, if a state file tells how; host-local releases what is left.
fn calls(gone: &Gone, data_dir: &Path) -> Vec<(&'static str, Value)> {
    let config = |plugin: &str, keys: Value| {
        let mut config = json!({"cniVersion": "1.0.0", "name": gone.owner.network, "type": plugin});
        if let (Some(config), Value::Object(keys)) = (config.as_object_mut(), keys) {
            config.extend(keys);
        }
        config
    };
    let mut calls: Vec<_> = CHAINED
        .into_iter()
        .map(|plugin| (plugin, config(plugin, json!({}))))
        .collect();
    calls.push(match gone.has_state {
        true => (
            "flannel",
            config("flannel", json!({"dataDir": data_dir.join("flannel")})),
        ),
        false => ("bridge", config("bridge", json!({}))),
    });
    let folders: BTreeSet<_> = gone.addresses.iter().map(|(folder, _)| folder).collect();
    calls.extend(folders.into_iter().map(|folder| {
        let ipam = json!({"ipam": {"type": "host-local", "dataDir": folder}});
        ("host-local", config("host-local", ipam))
    }));
    calls
}

/// DEL by this executable, in a process of its own as a runtime calls it.
fn del(plugin: &str, owner: &Attachment, config: &Value) -> Result<(), String> {
    let run = || -> io::Result<Result<(), String>> {
        let mut child = Command::new(OWN)
            .arg(plugin)
            .env("CNI_COMMAND", "DEL")
            .env("CNI_CONTAINERID", &owner.container_id)
            .env("CNI_IFNAME", &owner.ifname)
            .env("CNI_NETNS", "")
            .env("CNI_ARGS", "")
            .env("CNI_PATH", cni_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(config.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        Ok(match output.status.success() {
            true => Ok(()),
            false => Err(message(&output.stdout)),
        })
    };
    run().unwrap_or_else(|error| Err(error.to_string()))
}

/// The runtime's, else the usual folder; this executable's folder may have the links, too.
fn cni_path() -> OsString {
    if let Some(path) = env::var_os("CNI_PATH").filter(|path| !path.is_empty()) {
        return path;
    }
    let mut path = OsString::from(BIN_DIR);
    if let Ok(own) = env::current_exe()
        && let Some(folder) = own.parent()
    {
        path.push(":");
        path.push(folder);
    }
    path
}

/// `msg` of a CNI error.
fn message(stdout: &[u8]) -> String {
    let error: Option<Value> = serde_json::from_slice(stdout).ok();
    let text = error.as_ref().and_then(|error| error.get("msg")?.as_str());
    text.unwrap_or("it failed without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_that_of_the_cni_error() {
        assert_eq!(message(br#"{"code": 999, "msg": "busy"}"#), "busy");
        assert_eq!(message(b""), "it failed without a message");
    }
}
