//! The `flannel` meta plugin: reads the node's subnets from subnet.env, derives the configuration
//! of another plugin (`bridge` by default) from it, and delegates to that plugin.
//!
//! `conf` reads the keys, `derive` makes the delegate's configuration, `state` keeps it for DEL;
//! each verb has a module.

mod add;
mod check;
mod conf;
mod del;
mod derive;
mod error;
pub mod fuzz;
mod gc;
mod leftover;
mod state;
mod status;
mod subnet_file;

use error::Error;
pub use leftover::{StateFile, leave_to_upstream, state_files};
use plugin::{AddOutput, Call, Plugin};

/// The plugin, for the suite.
pub static PLUGIN: FlannelPlugin = FlannelPlugin;

/// The type of [`PLUGIN`].
#[derive(Debug)]
pub struct FlannelPlugin;

impl Plugin for FlannelPlugin {
    fn name(&self) -> &'static str {
        "flannel"
    }

    /// In upstream's form, from which tools read the version.
    fn about(&self) -> String {
        format!(
            "CNI Plugin flannel version v{} (linux/{}) commit {}",
            env!("CARGO_PKG_VERSION"),
            go_arch(std::env::consts::ARCH),
            option_env!("GIT_COMMIT").unwrap_or("unknown")
        )
    }

    fn add(&self, call: &Call) -> Result<AddOutput, cni_conf::Error> {
        Ok(AddOutput::Raw(add::add(call)?))
    }

    fn check(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(check::check(call)?)
    }

    fn del(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(del::del(call)?)
    }

    fn gc(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(gc::gc(call)?)
    }

    fn status(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(status::status(call)?)
    }
}

/// Go's name of a Rust architecture.
fn go_arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_has_upstreams_form() {
        let about = PLUGIN.about();
        let rest = about
            .strip_prefix("CNI Plugin flannel version v")
            .expect("prefix");
        let (version, rest) = rest.split_once(" (linux/").expect("platform");
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        assert!(rest.contains(") commit "), "{about}");
    }

    #[test]
    fn architectures_have_gos_names() {
        let names = ["x86_64", "aarch64", "riscv64", "s390x"].map(go_arch);
        assert_eq!(names, ["amd64", "arm64", "riscv64", "s390x"]);
    }
}
