//! The suite: one executable that contains every plugin and runs the one that it is called as.

mod prune;

use plugin::{Plugin, Registry};
use std::{
    env,
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// Every plugin. The file `names` lists them for the scripts that create the links.
static PLUGINS: Registry = &[
    &bandwidth::PLUGIN,
    &bridge::PLUGIN,
    &firewall::PLUGIN,
    &flannel_cni::PLUGIN,
    &host_local::PLUGIN,
    &loopback::PLUGIN,
    &portmap::PLUGIN,
    &static_ipam::PLUGIN,
    &tuning::PLUGIN,
];

/// The arguments that ask what this executable is.
const HELP: [&str; 3] = ["-h", "-help", "--help"];
const VERSION: [&str; 2] = ["-version", "--version"];
/// Exit code of an argument that cannot be used.
const USAGE: u8 = 2;
/// The command that removes what is left of containers. Each plugin's name has it, too: where
/// plugins are copies, no file is named cni-suite.
const PRUNE: &str = "prune";

fn main() -> ExitCode {
    let mut args = env::args_os();
    let called = args.next().unwrap_or_default();
    let command = args.next();
    let is_called_by_runtime = env::var_os("CNI_COMMAND").is_some_and(|verb| !verb.is_empty());
    if command.as_deref() == Some(OsStr::new(PRUNE)) && !is_called_by_runtime {
        return prune::run(args);
    }
    if let Some(plugin) = by_name(&called) {
        return plugin::main(plugin, PLUGINS);
    }
    match command {
        Some(flag) if HELP.iter().any(|help| flag == *help) => print(&about()),
        Some(flag) if VERSION.iter().any(|version| flag == *version) => {
            print(&format!("cni-suite {}", env!("CARGO_PKG_VERSION")))
        }
        Some(name) => match by_name(&name) {
            Some(plugin) => plugin::main(plugin, PLUGINS),
            None => {
                unknown(&name);
                ExitCode::from(USAGE)
            }
        },
        // a runtime called an unknown plugin
        None if is_called_by_runtime => {
            unknown(&called);
            ExitCode::FAILURE
        }
        None => {
            plugin::warn(about());
            ExitCode::SUCCESS
        }
    }
}

/// Exit code 1 if stdout cannot be written.
fn print(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The plugin named by the last part of the path.
fn by_name(path: &OsStr) -> Option<&'static dyn Plugin> {
    let name = Path::new(path).file_name()?.to_str()?;
    PLUGINS.iter().copied().find(|plugin| plugin.name() == name)
}

fn unknown(name: &OsStr) {
    plugin::warn(format_args!(
        "{} is not a plugin of this executable: {}",
        name.to_string_lossy(),
        names().join(", ")
    ));
}

fn names() -> Vec<&'static str> {
    PLUGINS.iter().map(|plugin| plugin.name()).collect()
}

fn about() -> String {
    format!(
        "cni-suite {}: every CNI plugin of flannel's pod network in one file.\n\n  {}\n\n\
         The name that it is executed by selects the plugin. To install one beside this\n\
         file:\n\n  \
         ln -s cni-suite /opt/cni/bin/bridge\n\n\
         A runtime then finds it in CNI_PATH. `cni-suite NAME` runs one by hand, with its\n\
         parameters in the CNI_* variables and on stdin\n\
         (https://www.cni.dev/docs/spec/). `cni-suite prune` removes what is left on this\n\
         node of containers that no longer exist; `cni-suite prune -help` describes it.",
        env!("CARGO_PKG_VERSION"),
        names().join("\n  ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_80_columns() {
        assert!(about().lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn names_file_lists_every_plugin() {
        let mut listed: Vec<_> = include_str!("../names").split_whitespace().collect();
        listed.sort_unstable();
        assert_eq!(names(), listed);
    }

    #[test]
    fn plugin_is_chosen_by_the_last_part_of_the_path() {
        let name = |path: &str| by_name(OsStr::new(path)).map(|plugin| plugin.name());
        assert_eq!(name("/opt/cni/bin/loopback"), Some("loopback"));
        assert_eq!(name("loopback"), Some("loopback"));
        assert_eq!(name("/opt/cni/bin/cni-suite"), None);
        assert_eq!(name(""), None);
    }
}
