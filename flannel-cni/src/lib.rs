//! The `flannel` meta plugin: reads this node's lease from subnet.env and lets another plugin,
//! `bridge` if nothing else is asked for, do the work with a configuration that is derived from it.
//!
//! [`conf`] reads the keys, [`derive`] makes the delegate's configuration, [`state`] keeps it for
//! the day of DEL, and the verbs are thin.

pub mod add;
pub mod check;
pub mod conf;
pub mod del;
pub mod derive;
pub mod error;
pub mod gc;
pub mod state;
pub mod status;
pub mod subnet_file;

pub use error::Error;

use plugin::{AddOutput, Call, Plugin};

/// The plugin, for the suite.
pub static PLUGIN: FlannelPlugin = FlannelPlugin;

/// Its verbs.
#[derive(Debug)]
pub struct FlannelPlugin;

impl Plugin for FlannelPlugin {
    fn name(&self) -> &'static str {
        "flannel"
    }
    /// In upstream's form: tools read the version from it.
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

/// Go's name of an architecture.
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
    fn the_line_for_people() {
        let about = PLUGIN.about();
        let rest = about
            .strip_prefix("CNI Plugin flannel version v")
            .expect("prefix");
        let (version, rest) = rest.split_once(" (linux/").expect("platform");
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        assert!(rest.contains(") commit "), "{about}");
    }

    #[test]
    fn architectures() {
        let names = ["x86_64", "aarch64", "riscv64", "s390x"].map(go_arch);
        assert_eq!(names, ["amd64", "arm64", "riscv64", "s390x"]);
    }
}
