//! The suite under real runtimes. One machine for all of them, so the cases run one after the other.

mod containerd;
mod podman;

fn main() {
    let missing = runtimes::machine::missing();
    if missing.is_none() {
        runtimes::machine::enter();
        runtimes::image::build();
    }
    let cases = containerd::cases().into_iter().chain(podman::cases());
    let cases = cases.map(|case| case.unless(missing.clone())).collect();
    tests::suite::main_in_turn(cases)
}
