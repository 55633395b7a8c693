//! The flanneld binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    flanneld::main()
}
