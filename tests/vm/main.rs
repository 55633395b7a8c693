//! What the machine's own kernel lacks, in a virtual machine with Debian's: the scenarios that skip here run there.
//! For correctness only; under software emulation nothing is measured.

mod initramfs;
mod kernel;
mod machine;

use tests::scenario;

fn main() {
    tests::suite::main(Vec::new())
}

#[scenario(unless = machine::missing)]
fn vlan_scenarios_pass_where_bridges_filter_vlans() {
    scenarios(
        "vlan",
        &[
            "linux_net/bridge_vlans",
            "bridge/vlan/apart",
            "bridge/vlan/trunk",
            "bridge/vlan/gateway",
        ],
    );
}

/// Runs the scenarios whose name contains `filter` inside. None may fail, and each of `must` has to run.
fn scenarios(filter: &str, must: &[&str]) {
    let said = machine::run(&format!("/bin/scenarios --color never {filter}"));
    assert!(said.contains("test result: ok."), "{said}");
    for name in must {
        let ran = said
            .lines()
            .any(|line| line.split_whitespace().eq(["test", name, "...", "ok"]));
        assert!(ran, "{name} did not run:\n{said}");
    }
}
