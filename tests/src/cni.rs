//! Executes one plugin as a runtime does: environment, stdin, stdout.

use crate::Host;
use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

/// A call of a plugin, valid unless a test changes a field.
#[derive(Clone, Debug)]
pub struct Cni {
    /// CNI_PATH
    pub path: String,
    /// CNI_* and other environment variables
    pub env: BTreeMap<String, String>,
}

/// The outcome of a call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code; -1 after a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Panics unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Code and message of the CNI error on stdout; panics if the call succeeded.
    #[track_caller]
    pub fn error(&self) -> (u64, String) {
        assert_eq!(self.code, 1, "{self:?}");
        let json = self.json();
        (
            json["code"].as_u64().expect("code"),
            json["msg"].as_str().expect("msg").to_owned(),
        )
    }
}

impl Cni {
    /// A call for container `id`, namespace `netns`, interface eth0, with plugins in `path`.
    pub fn new(path: &str, id: &str, netns: &str) -> Cni {
        let env = [
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", path),
        ];
        Cni {
            path: path.to_owned(),
            env: env
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
        }
    }

    /// Adds or replaces an environment variable.
    pub fn with(mut self, key: &str, value: &str) -> Cni {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Executes `plugin` on `host` with CNI_COMMAND `verb` and the configuration on stdin.
    pub fn call(&self, host: &Host, verb: &str, plugin: &str, config: &str) -> Outcome {
        host.run(|| self.call_here(verb, plugin, config))
    }

    /// The same in the calling thread's namespaces.
    pub fn call_here(&self, verb: &str, plugin: &str, config: &str) -> Outcome {
        let program = self
            .path
            .split(':')
            .map(|dir| format!("{dir}/{plugin}"))
            .find(|file| std::path::Path::new(file).exists());
        let mut command =
            Command::new(program.unwrap_or_else(|| panic!("no {plugin} in {}", self.path)));
        command
            .env_clear()
            .envs(&self.env)
            .env("CNI_COMMAND", verb)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("start plugin");
        let mut stdin = child.stdin.take().expect("stdin");
        // a plugin that refuses its environment does not read stdin: EPIPE is expected
        let _ = stdin.write_all(config.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("plugin's output");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
