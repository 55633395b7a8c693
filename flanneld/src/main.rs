//! The daemon.
use std::process::ExitCode;

fn main() -> ExitCode {
    flanneld::daemon::main()
}
