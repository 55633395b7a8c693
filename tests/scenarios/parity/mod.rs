//! The same lives of pods under ours and under Debian's Go plugins (containernetworking 1.1.1), step by step: what is printed, what
//! the pod and the host look like, which messages refuse what. Where a step differs, the difference has a name here and its reason
//! in `docs/differences.md`; one that does not occur any more is an error as well.

mod known;
mod life;
mod lives;
mod plain;
mod refusals;

use life::{Life, Step, Whose};
use tests::{Case, case, peers::without_go_plugins, scenarios};

#[scenarios(unless = without_go_plugins)]
fn lives() -> Vec<Case> {
    let lives = lives::all().into_iter();
    lives
        .map(|life| case(life.name, move || compare(&life)))
        .collect()
}

fn compare(life: &Life) {
    let [ours, go] = [Whose::Ours, Whose::Go].map(|whose| life.live(whose));
    let labels = |steps: &[Step]| {
        steps
            .iter()
            .map(|step| step.label.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(&ours), labels(&go));
    let mut unexpected = String::new();
    for (ours, go) in ours.iter().zip(&go) {
        let go = known::in_our_words(life.name, &go.label, &go.text);
        if ours.text != go {
            unexpected += &format!("--- {}\nours: {}\ngo:   {go}\n", ours.label, ours.text);
        }
    }
    assert!(
        unexpected.is_empty(),
        "differences without a name:\n{unexpected}"
    );
}
