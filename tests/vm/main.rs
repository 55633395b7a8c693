//! Scenarios that this machine's kernel cannot run, in virtual machines with Debian's cloud kernel:
//! an area of them in each machine. They check correctness only: nothing is measured under software
//! emulation.
//!
//! `VM_SCENARIOS=filter` runs these scenarios in place of an area's, `VM_REPEAT=n` runs them n
//! times in one machine. The console of each machine is in `target/vm/AREA.log`.

mod area;
mod console;
mod initramfs;
mod kernel;
mod machine;

/// How many machines run at once. Each keeps about one processor busy.
const MACHINES: usize = 2;

fn main() {
    tests::suite::main_at_once(MACHINES)
}
