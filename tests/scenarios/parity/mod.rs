//! Our plugins compared with the Go plugins, step by step: stdout, the state of the pod and of the
//! host, error messages. The Go plugins are Debian's (containernetworking 1.1.1), and, where Go is
//! at hand, those of the release that `tests/peers/plugins` pins. A step that differs is listed in
//! [`known`], under a heading of `docs/differences.md`, or because Debian's are older: the pinned
//! release then has no difference.

mod known;
mod lifecycle;
mod lifecycles;
mod normalize;
mod refusals;

use lifecycle::{Lifecycle, Step};
use std::path::PathBuf;
use tests::{
    Case,
    binaries::BIN,
    case,
    peers::{GO_PLUGINS, built_from_go, without_go_plugins},
    scenarios,
};

/// A release of the Go plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// 1.1.1, of Debian's package.
    Debian,
    /// The one that `tests/peers/plugins` pins.
    Pinned,
}

impl Release {
    fn folder(self) -> PathBuf {
        match self {
            Release::Debian => PathBuf::from(GO_PLUGINS),
            Release::Pinned => built_from_go("plugins").expect("built"),
        }
    }
}

fn without_pinned_plugins() -> Option<String> {
    built_from_go("plugins").err()
}

#[scenarios(unless = without_go_plugins)]
fn lifecycles() -> Vec<Case> {
    lifecycles::all()
        .into_iter()
        .map(|lifecycle| case(lifecycle.name, move || compare(&lifecycle, Release::Debian)))
        .collect()
}

#[scenarios(unless = without_pinned_plugins)]
fn lifecycles_of_the_pinned_release() -> Vec<Case> {
    lifecycles::all()
        .into_iter()
        .map(|lifecycle| {
            let name = format!("pinned/{}", lifecycle.name);
            case(&name, move || compare(&lifecycle, Release::Pinned))
        })
        .collect()
}

fn compare(lifecycle: &Lifecycle, release: Release) {
    let folder = release.folder();
    let go = folder.to_str().expect("UTF-8");
    let [ours, go] = [BIN, go].map(|path| lifecycle.run(path));
    let labels = |steps: &[Step]| {
        steps
            .iter()
            .map(|step| step.label.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(&ours), labels(&go));
    let mut unexpected = String::new();
    for (ours, go) in ours.iter().zip(&go) {
        let go = known::expected(release, lifecycle.name, &go.label, &go.text);
        if ours.text != go {
            unexpected += &format!("--- {}\nours: {}\ngo:   {go}\n", ours.label, ours.text);
        }
    }
    assert!(unexpected.is_empty(), "unknown differences:\n{unexpected}");
}
