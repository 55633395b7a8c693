//! docs/runtimes.md: its files and commands, on the runtimes of this machine.

use super::podman::CONFIGURATION;
use runtimes::{
    containerd::{Containerd, Cri},
    image, machine,
};
use std::fs;
use tests::{page::Page, scenario, shell::sh};

const CONTAINERD: &str = "/etc/containerd/config.toml";
const NET_D: &str = "/etc/cni/net.d";
const FLANNEL: &str = include_str!("../../../cni-conf/net.d/10-flannel.conflist");
/// What podman's package installs.
const PODMAN: &str = r#"{"cniVersion":"0.4.0","name":"podman","plugins":[
    {"type":"bridge","bridge":"cni-podman0","isGateway":true,"ipMasq":true,"hairpinMode":true,
     "ipam":{"type":"host-local","routes":[{"dst":"0.0.0.0/0"}],
             "ranges":[[{"subnet":"10.88.0.0/16","gateway":"10.88.0.1"}]]}},
    {"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"},{"type":"tuning"}]}"#;
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

fn prepare() {
    machine::install(machine::ours());
    let _ = fs::remove_dir_all(NET_D);
    fs::create_dir_all(NET_D).expect(NET_D);
    fs::create_dir_all("/etc/containerd").expect("folder");
    for (name, text) in [("10-flannel", FLANNEL), ("87-podman-bridge", PODMAN)] {
        fs::write(format!("{NET_D}/{name}.conflist"), text).expect(name);
    }
    fs::write("/run/flannel/subnet.env", SUBNET_ENV).expect("subnet.env");
}

fn start(settings: &str) -> (Containerd, Cri) {
    let containerd = Containerd::start_with(CONTAINERD, settings);
    containerd.import();
    (containerd, Cri::connect())
}

/// The interfaces of a pod, and its first address.
fn pod(cri: &mut Cri) -> Result<(usize, String), String> {
    let pod = cri.run_pod("settings", &[])?;
    let links = cri.exec(&pod, "ip -o link show")?;
    cri.remove(&pod)?;
    Ok((links.matches(": eth").count(), pod.ip))
}

#[scenario(unless = machine::missing)]
fn containerd_uses_the_first_list_with_the_settings_of_the_page() {
    prepare();
    let settings = Page::open("runtimes.md").file("containerd 1.6 and 1.7", "toml");
    let (containerd, mut cri) = start(&settings);
    let (interfaces, ip) =
        pod(&mut cri).unwrap_or_else(|error| panic!("{error}\n{}", containerd.log()));
    assert!(
        interfaces == 1 && ip.starts_with("10.244.7."),
        "{interfaces} {ip}"
    );
    containerd.stop();

    // with every list, a pod is in every network
    let every = settings.replace("max_conf_num = 1", "max_conf_num = 0");
    let (containerd, mut cri) = start(&every);
    let (interfaces, ip) =
        pod(&mut cri).unwrap_or_else(|error| panic!("{error}\n{}", containerd.log()));
    assert!(
        interfaces == 2 && ip.starts_with("10.244.7."),
        "{interfaces} {ip}"
    );
    containerd.stop();

    let debian = settings.replace("/opt/cni/bin", "/usr/lib/cni");
    let (containerd, mut cri) = start(&debian);
    let error = pod(&mut cri).expect_err("no flannel in the folder");
    let text = r#"failed to find plugin "flannel" in path [/usr/lib/cni]"#;
    assert!(error.contains(text), "{error}");
    containerd.stop();
}

#[scenario(unless = machine::missing)]
fn containerd_writes_a_list_by_its_template_where_there_is_none() {
    prepare();
    let settings = Page::open("runtimes.md").file("containerd 1.6 and 1.7", "toml");
    fs::write("/run/template.conflist", BRIDGE_TEMPLATE).expect("template");
    let settings = format!("{settings}  conf_template = \"/run/template.conflist\"\n");
    let written = format!("{NET_D}/10-containerd-net.conflist");
    let (containerd, mut cri) = start(&settings);
    cri.set_pod_cidr("10.99.0.0/24").expect("pod CIDR");
    assert!(
        !fs::exists(&written).expect("folder"),
        "there is another list"
    );
    containerd.stop();

    fs::remove_dir_all(NET_D).expect("lists");
    fs::create_dir_all(NET_D).expect(NET_D);
    let (containerd, mut cri) = start(&settings);
    cri.set_pod_cidr("10.99.0.0/24").expect("pod CIDR");
    assert!(
        fs::exists(&written).expect("folder"),
        "{}",
        containerd.log()
    );
    containerd.stop();
}

/// A list of containerd's own.
const BRIDGE_TEMPLATE: &str = r#"{"name":"containerd-net","cniVersion":"0.4.0","plugins":[{"type":"bridge","ipam":
    {"type":"host-local","subnet":"{{.PodCIDR}}"}}]}"#;

#[scenario(unless = machine::missing)]
fn podman_joins_the_pod_network_with_the_settings_of_the_page() {
    prepare();
    let page = Page::open("runtimes.md");
    fs::create_dir_all("/etc/containers").expect("folder");
    let settings = format!("{}{CONFIGURATION}", page.file("podman", "toml"));
    fs::write("/etc/containers/containers.conf", settings).expect("containers.conf");
    sh(&format!("podman load -q -i {}", image::ARCHIVE));
    assert_eq!(
        sh("podman info --format '{{.Host.NetworkBackend}}'"),
        "cni\n"
    );
    let addresses = sh(&page.commands("podman").replace("IMAGE", image::NAME));
    assert!(addresses.contains("inet 10.244.7."), "{addresses}");
    let run = format!(
        "podman run --rm --network podman {} ip address show eth0",
        image::NAME
    );
    let addresses = sh(&run);
    assert!(addresses.contains("inet 10.88."), "{addresses}");
    assert_eq!(
        sh("ip -o link show master cni0; ip -o link show master cni-podman0"),
        ""
    );
}
