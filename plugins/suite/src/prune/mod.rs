//! `cni-suite prune`: removes what the plugins keep on this node of containers that no longer
//! exist. No runtime calls GC today, and one that lost its state cannot tell which containers
//! exist; this command goes by the network namespaces. What may belong to a container that exists
//! is left, with the reason.
//!
//! `options` reads the arguments, `inventory` reads what there is, `judge` decides (a pure
//! function), and `removal` calls DEL of the plugins.

mod inventory;
mod judge;
mod options;
mod removal;
mod report;

use inventory::Inventory;
use judge::{Plan, judge};
use options::{Options, Parsed};
use removal::Removal;
use report::Report;
use std::{ffi::OsString, process::ExitCode};

/// Runs the command with the arguments after its name. Exit code 2 if they cannot be understood, 1
/// if something was not removed that should be.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    match Options::parse(args) {
        Ok(Parsed::Help) => crate::print(options::HELP),
        Ok(Parsed::Options(options)) => prune(&options).print(),
        Err(error) => {
            plugin::warn(format_args!("cni-suite prune: {error}"));
            ExitCode::from(crate::USAGE)
        }
    }
}

fn prune(options: &Options) -> Report {
    let mut report = Report::new(options.dry_run);
    let inventory = match Inventory::read(options, &mut report) {
        Ok(inventory) => inventory,
        Err(error) => {
            report.failed("nothing was removed", error);
            return report;
        }
    };
    let Plan { gone, left } = judge(&inventory.findings);
    for (what, reason) in left {
        report.left(what, reason);
    }
    Removal::new(options, &mut report).remove(&gone, inventory.rules);
    report
}
