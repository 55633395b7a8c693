//! The suite under real runtimes. All cases share one machine, so they run one after the other.

mod containerd;
mod data_path;
mod podman;
mod settings;
mod shipped_image;

fn main() {
    if runtimes::machine::missing().is_none() {
        runtimes::machine::enter();
        runtimes::image::build();
    }
    tests::suite::main_at_once(1)
}
