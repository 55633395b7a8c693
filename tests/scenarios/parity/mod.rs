//! Our plugins compared with Debian's Go plugins (containernetworking 1.1.1), step by step: stdout,
//! the state of the pod and of the host, error messages. A step that differs is listed in
//! [`known`], under a heading of `docs/differences.md`.

mod known;
mod lifecycle;
mod lifecycles;
mod normalize;
mod refusals;

use lifecycle::{Lifecycle, Step, Whose};
use tests::{Case, case, peers::without_go_plugins, scenarios};

#[scenarios(unless = without_go_plugins)]
fn lifecycles() -> Vec<Case> {
    lifecycles::all()
        .into_iter()
        .map(|lifecycle| case(lifecycle.name, move || compare(&lifecycle)))
        .collect()
}

fn compare(lifecycle: &Lifecycle) {
    let [ours, go] = [Whose::Ours, Whose::Go].map(|whose| lifecycle.run(whose));
    let labels = |steps: &[Step]| {
        steps
            .iter()
            .map(|step| step.label.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(&ours), labels(&go));
    let mut unexpected = String::new();
    for (ours, go) in ours.iter().zip(&go) {
        let go = known::expected(lifecycle.name, &go.label, &go.text);
        if ours.text != go {
            unexpected += &format!("--- {}\nours: {}\ngo:   {go}\n", ours.label, ours.text);
        }
    }
    assert!(unexpected.is_empty(), "unknown differences:\n{unexpected}");
}
