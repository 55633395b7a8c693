//! The known differences. A named one is explained in `docs/differences.md`; the others come from
//! the age of Debian's plugins (1.1.1, of 2022): ours print what upstream prints today, which the
//! comparison with the pinned release proves.

use super::Release;
use tests::scenario;

/// A part of Go's text at some steps, and its replacement in ours.
struct Known {
    /// Heading in `docs/differences.md`; `None` where Debian's version is older.
    name: Option<&'static str>,
    /// Prefix of the lifecycle's name.
    lifecycle: &'static str,
    /// Part of the step's label, or its prefix after `^`.
    step: &'static str,
    /// What is replaced in Go's text; everything if empty.
    go: &'static str,
    ours: &'static str,
}

const fn older(step: &'static str, go: &'static str, ours: &'static str) -> Known {
    Known {
        name: None,
        lifecycle: "",
        step,
        go,
        ours,
    }
}

const fn named(
    name: &'static str,
    lifecycle: &'static str,
    step: &'static str,
    go: &'static str,
    ours: &'static str,
) -> Known {
    Known {
        name: Some(name),
        lifecycle,
        step,
        go,
        ours,
    }
}

const NO_DAD: &str = "IPv6 addresses skip duplicate address detection";
const KERNEL_REASON: &str = "Errors name the failed request and the kernel's reason";
const WRONG_TYPE: &str = "Errors about a wrong type name the key";
const DEL_ARGS: &str = "DEL needs only the container and its interface";
const NO_ADDRESSES: &str = "CHECK succeeds for a bridge without addresses";
const ROUTES: &str = "CHECK accepts a route without a next hop";
const LOOPBACK_FORMAT: &str = "loopback results have the format of the requested version";
const PREV_RESULT: &str = "An invalid prevResult is refused";

const DUAL_STACK: &str = "CHECK of host ports works for dual-stack pods";
const MISSING: &str = "CHECK names the missing rule and the remedy";

const KNOWN: &[Known] = &[
    older(
        "pod's links",
        "group default \\ ",
        "group default qlen 1000\\ ",
    ),
    older(
        "ADD again: bridge",
        "container veth name provided (eth0) already exists",
        r#"container veth name (\"eth0\") peer provided (\"VETH\") already exists"#,
    ),
    older("\"hairpinMode\":true", "same time.", "same time"),
    older("kernel.hostname", "kernel.hostname", "kernel/hostname"),
    named(
        NO_DAD,
        "",
        ": pod's addresses",
        "/64 scope global \\",
        "/64 scope global nodad \\",
    ),
    named(
        NO_DAD,
        "",
        ": host's bridge",
        "/64 scope global \\",
        "/64 scope global nodad \\",
    ),
    named(
        KERNEL_REASON,
        "refusals",
        "\"mtu\":10",
        "invalid argument",
        "create bridge cni0: invalid argument (mtu less than device minimum)",
    ),
    named(
        KERNEL_REASON,
        "refusals",
        "a-name-that-is-too-long",
        "numerical result out of range",
        "create bridge a-name-that-is-too-long: numerical result out of range (Attribute failed policy validation)",
    ),
    named(
        KERNEL_REASON,
        "refusals",
        "../../../x",
        "open /proc/sys/net/ipv4/x:",
        "write sysctl net/ipv4/x=1:",
    ),
    named(
        KERNEL_REASON,
        "tuning",
        "CHECK after DEL: tuning",
        "open /proc/sys/",
        "read sysctl ",
    ),
    named(
        WRONG_TYPE,
        "refusals",
        "\"ingressRate\":-1",
        "Go struct field PluginConf.ingressRate of type uint64",
        "field ingressRate of type u64",
    ),
    // of the pinned release
    named(
        WRONG_TYPE,
        "refusals",
        "\"ingressRate\":-1",
        "Go struct field PluginConf.BandwidthEntry.ingressRate of type uint64",
        "field ingressRate of type u64",
    ),
    named(
        PREV_RESULT,
        "refusals",
        "\"cniVersion\":\"0.2.0\"",
        "accepted",
        "999 could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is \"0.2.0\"",
    ),
    named(DEL_ARGS, "bridge-args", "^DEL", "", "0 "),
    named(NO_ADDRESSES, "bridge-layer2", "CHECK: bridge", "", "0 "),
    named(
        NO_ADDRESSES,
        "bridge-layer2",
        "CHECK after DEL",
        "no plugin name provided",
        "Interface name eth0 not found",
    ),
    named(ROUTES, "bridge-static", "CHECK: bridge", "", "0 "),
    named(
        LOOPBACK_FORMAT,
        "loopback-0.4.0",
        "ADD",
        r#""address":"127.0.0.1/8","interface":0"#,
        r#""address":"127.0.0.1/8","interface":0,"version":"4""#,
    ),
    named(
        LOOPBACK_FORMAT,
        "loopback-0.4.0",
        "ADD",
        r#""address":"::1/128","interface":0"#,
        r#""address":"::1/128","interface":0,"version":"6""#,
    ),
    named(DUAL_STACK, "portmap-snat", "^CHECK: portmap", "", "0 "),
    named(DUAL_STACK, "portmap-no-snat", "^CHECK: portmap", "", "0 "),
    named(
        MISSING,
        "portmap",
        "^CHECK after DEL: portmap",
        "could not check ipv4 dnat: chain CNI-DN-623e1c388032b20529218 not found in iptables table nat",
        "port mapping of container c1: RULE is missing in iptables' table nat; delete the container and start it again",
    ),
    // ours checks the rules of IPv4 first
    named(
        MISSING,
        "firewall",
        "^CHECK after DEL: firewall",
        "fd00:88:1::2/128",
        "10.88.1.2/32",
    ),
    // upstream has renamed the comment of the rules that both policies need; the target selects
    // them
    older(
        "host's iptables",
        "FORWARD -m comment --comment \"CNI firewall plugin rules (ingressPolicy: same-bridge)",
        "FORWARD -m comment --comment \"CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)",
    ),
    older(
        "host's iptables",
        "same-bridge)\" -j RETURN",
        "same-bridge|isolated)\" -j RETURN",
    ),
    older(
        "host's iptables",
        "same-bridge)\" -j DROP",
        "same-bridge|isolated)\" -j DROP",
    ),
];

impl Known {
    fn is_at(&self, lifecycle: &str, step: &str) -> bool {
        let at_step = match self.step.strip_prefix('^') {
            Some(beginning) => step.starts_with(beginning),
            None => step.contains(self.step),
        };
        at_step && lifecycle.starts_with(self.lifecycle)
    }
}

/// The text of a step that ours must print, given Go's.
pub(super) fn expected(release: Release, lifecycle: &str, step: &str, go: &str) -> String {
    let known = KNOWN.iter().filter(|known| {
        // what differs because Debian's release is older must not differ from today's
        let concerns = known.name.is_some() || release == Release::Debian;
        concerns && known.is_at(lifecycle, step)
    });
    known.fold(go.to_owned(), |text, known| match known.go {
        "" => known.ours.to_owned(),
        go => text.replace(go, known.ours),
    })
}

#[scenario]
fn every_known_difference_is_a_heading_of_the_document() {
    let document = include_str!("../../../docs/differences.md");
    for name in KNOWN.iter().filter_map(|known| known.name) {
        assert!(
            document.contains(&format!("\n### {name}\n")),
            "{name:?} is not explained in docs/differences.md"
        );
    }
}

#[scenario]
fn every_plugin_has_a_section_of_differences() {
    let document = include_str!("../../../docs/differences.md");
    for plugin in tests::binaries::PLUGINS.iter() {
        let mut headings = document
            .lines()
            .filter_map(|line| line.strip_prefix("### "));
        assert!(
            headings.any(|heading| heading.starts_with(plugin)),
            "docs/differences.md has no section about {plugin}"
        );
    }
}
