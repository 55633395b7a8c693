//! The container in which packets are moved (deploy/kustomize/data-path), beside that of flanneld.

use crate::shipped_image::{DAEMON, no_image, with_image};
use runtimes::{
    containerd::Cri,
    host_container::{HostContainer, Spec},
};
use std::{fs, process::Command, time::Duration};
use tests::{binaries::program, process::Process, process::eventually, scenario, shell::sh};

const LIMIT: Duration = Duration::from_secs(20);
const NET_CONF: &str =
    r#"{"Network":"10.245.0.0/16","EnableNFTables":true,"Backend":{"Type":"udp"}}"#;

/// Another node: flanneld without a container, in a network namespace of its own.
fn start_peer() -> Process {
    sh("ip link add underlay type veth peer name eth0 \
        && ip addr add 10.66.0.1/24 dev underlay && ip link set underlay up \
        && ip netns add peer && ip link set eth0 netns peer \
        && ip -n peer addr add 10.66.0.2/24 dev eth0 && ip -n peer link set eth0 up");
    let mut command = Command::new("ip");
    let flanneld = program("flanneld");
    command.args(["netns", "exec", "peer", "sh", "-c"]);
    command.arg(format!(
        "mount -t tmpfs tmpfs /run/flannel && mount -t tmpfs tmpfs /var/lib && exec {} \
         -remote=10.66.0.1:8888 -insecure -iface=eth0 -subnet-file=/run/flannel/subnet.env",
        flanneld.display()
    ));
    Process::start(command)
}

fn start(cri: &mut Cri, spec: &Spec) -> HostContainer {
    cri.start_on_host(spec).expect(spec.name)
}

fn count_running(argument: &str) -> usize {
    let found = Command::new("pgrep").args(["-fc", argument]).output();
    let found = String::from_utf8(found.expect("pgrep").stdout).expect("text");
    found.trim().parse().expect("a number")
}

#[scenario(unless = no_image)]
fn data_path_container_moves_packets_while_flanneld_is_replaced() {
    let (containerd, mut cri, image) = with_image();
    let peer = start_peer();
    sh("mkdir -p /run/host/flannel /run/host/state /run/host/kube-flannel");
    fs::write("/run/host/kube-flannel/net-conf.json", NET_CONF).expect("net-conf.json");
    let run = ("/run/host/flannel", "/run/flannel");
    let tun = ("/dev/net/tun", "/dev/net/tun");
    let flanneld = Spec {
        name: "kube-flannel",
        image: &image,
        command: &[],
        args: &["-listen=10.66.0.1:8888", "-insecure", "-iface=underlay"],
        mounts: &[
            run,
            tun,
            ("/run/host/state", "/var/lib/flannel"),
            ("/run/host/kube-flannel", "/etc/kube-flannel/"),
        ],
        capabilities: DAEMON,
    };
    let keeper = Spec {
        name: "data-path",
        command: &["/opt/bin/flanneld"],
        args: &["data-path", "--keep=/run/flannel"],
        mounts: &[run, tun],
        ..flanneld
    };
    let first = start(&mut cri, &flanneld);
    let own = eventually("flannel0 has the subnet's address", LIMIT, || {
        address(&sh("ip -o -4 addr show"))
    });
    let other = eventually("flannel0 of the peer", LIMIT, || {
        address(&sh("ip -n peer -o -4 addr show"))
    });
    let path = start(&mut cri, &keeper);
    eventually("the container has the process", LIMIT, || {
        (count_running("flanneld data-path .* -kept") == 1).then_some(())
    });
    let ping = format!("ping -n -i 0.005 -W 1 -c 1000 -I {own} {other}");
    eventually("packets arrive", LIMIT, || {
        let once = format!("ping -n -c 1 -W 1 -I {own} {other}");
        Command::new("sh")
            .args(["-c", &once])
            .output()
            .expect("ping")
            .status
            .success()
            .then_some(())
    });

    let all_arrive = |what: &str, replace: &mut dyn FnMut()| {
        let mut command = Command::new("sh");
        command.args(["-c", &ping]);
        let mut pings = Process::start(command);
        replace();
        pings.wait(LIMIT);
        let output = pings.output();
        assert!(output.contains(" 0% packet loss"), "{what}:\n{output}");
    };
    let mut daemon = Some(first);
    all_arrive("flanneld's container is replaced", &mut || {
        let ended = daemon.take().expect("it runs");
        cri.remove_from_host(&ended);
        daemon = Some(start(&mut cri, &flanneld));
    });
    let mut path = Some(path);
    all_arrive("the data path's container is replaced", &mut || {
        let ended = path.take().expect("it runs");
        cri.remove_from_host(&ended);
        path = Some(start(&mut cri, &keeper));
    });

    for container in [daemon, path].iter().flatten() {
        cri.remove_from_host(container);
    }
    let cleaned = cri.run_on_host(&Spec {
        name: "cleanup",
        args: &["cleanup"],
        ..flanneld
    });
    assert_eq!(cleaned.code, 0, "{}", cleaned.output);
    drop(peer);
    sh("ip link delete underlay && ip netns pids peer | xargs -r kill && ip netns delete peer");
    let links = sh("ip -o link show");
    assert!(!links.contains("flannel"), "{links}");
    containerd.stop();
}

/// That of flannel0, as `ip -o` prints it.
fn address(shown: &str) -> Option<String> {
    let line = shown.lines().find(|line| line.contains(" flannel0 "))?;
    let (_, rest) = line.split_once("inet ")?;
    rest.split(['/', ' ']).next().map(str::to_owned)
}
