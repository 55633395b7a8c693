//! Scenarios that this machine's kernel cannot run, in a virtual machine with Debian's cloud
//! kernel. They check correctness only: nothing is measured under software emulation.

mod initramfs;
mod kernel;
mod machine;

use tests::scenario;

fn main() {
    tests::suite::main()
}

#[scenario(unless = machine::missing)]
fn vlan_scenarios_pass_where_bridges_filter_vlans() {
    scenarios(
        "vlan",
        &[
            "linux_net/bridge_vlans_are_read_back",
            "bridge/pods_of_different_vlans_are_separated",
            "bridge/trunk_vlans_are_tagged",
            "bridge/gateway_address_is_on_the_vlans_interface",
        ],
    );
}

/// Runs the scenarios whose name contains `filter` in the virtual machine. None may fail, and each
/// of `required` has to run.
fn scenarios(filter: &str, required: &[&str]) {
    let output = machine::run(&format!("/bin/scenarios --color never {filter}"));
    assert!(output.contains("test result: ok."), "{output}");
    for name in required {
        let ran = output
            .lines()
            .any(|line| line.split_whitespace().eq(["test", name, "...", "ok"]));
        assert!(ran, "{name} did not run:\n{output}");
    }
}
