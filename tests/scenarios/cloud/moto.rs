//! AWS's script with the real AWS CLI against moto's EC2, and flanneld with it as its backend.

use super::{
    SCRIPTS, SUBNET,
    metadata::{self, Demand, Metadata},
    providers::address,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tests::{Host, Process, binaries::program, peers, process::eventually, scenario};

/// The AWS CLI takes seconds for each request where the processors do other work.
const TIMEOUT: Duration = Duration::from_secs(180);
const MAC: &str = "02:00:00:00:00:01";

fn without_moto() -> Option<String> {
    peers::installed_from_python("moto").err()
}

/// An instance beside moto's EC2, which has the VPC, its subnet, and the interfaces of two
/// instances.
struct Ec2 {
    instance: Metadata,
    bin: PathBuf,
    interfaces: Vec<String>,
    _moto: Process,
}

impl Ec2 {
    fn new() -> Ec2 {
        let bin = peers::installed_from_python("moto").expect("it is installed");
        let host = Host::new("instance");
        let mut moto = Command::new(bin.join("moto_server"));
        moto.args(["-H", "127.0.0.1", "-p", "5000"]);
        let moto = host.spawn(moto);
        eventually("moto answers", TIMEOUT, || {
            let answer = host.try_sh("curl -s -o /dev/null http://127.0.0.1:5000/");
            answer.status.success().then_some(())
        });
        let aws = |arguments: &str| aws(&host, &bin, arguments);
        let vpc = aws("create-vpc --cidr-block 172.31.0.0/16 --query Vpc.VpcId");
        let subnet = aws(&format!(
            "create-subnet --vpc-id {vpc} --cidr-block 172.31.0.0/24 --query Subnet.SubnetId"
        ));
        let interfaces = [1, 2].map(|node| {
            aws(&format!(
                "create-network-interface --subnet-id {subnet} --private-ip-address {} \
                     --query NetworkInterface.NetworkInterfaceId",
                address(node)
            ))
        });
        let of_interface =
            |key: &str| format!("/latest/meta-data/network/interfaces/macs/{MAC}/{key}");
        let values = [
            ("/latest/meta-data/mac".to_owned(), MAC),
            ("/latest/meta-data/placement/region".to_owned(), "eu-west-1"),
            (of_interface("interface-id"), &*interfaces[0]),
            (of_interface("subnet-id"), &*subnet),
            (of_interface("vpc-id"), &*vpc),
        ];
        let values = values.map(|(path, value)| (path, value.to_owned()));
        let instance = Metadata::on(host, Demand::Token, values.into());
        Ec2 {
            instance,
            bin,
            interfaces: interfaces.into(),
            _moto: moto,
        }
    }

    /// What `aws ec2` prints.
    fn aws(&self, arguments: &str) -> String {
        aws(&self.instance.host, &self.bin, arguments)
    }

    fn run(&self, verb: &str, public_ip: &str) {
        self.instance.host.sh(&format!(
            "env {} SUBNET={SUBNET} PUBLIC_IP={public_ip} {SCRIPTS}/aws-routes {verb}",
            variables(&self.bin)
        ));
    }

    /// The interface that the subnet leads to; None without a route.
    fn next_hop(&self, subnet: &str) -> String {
        self.aws(&format!(
            "describe-route-tables --query \"RouteTables[].Routes[?DestinationCidrBlock=='{subnet}'].NetworkInterfaceId | [] | [0]\""
        ))
    }
}

fn aws(host: &Host, bin: &Path, arguments: &str) -> String {
    let variables = variables(bin);
    let command = format!("env {variables} aws ec2 {arguments} --region eu-west-1 --output text");
    host.sh(&command).trim().to_owned()
}

/// The variables of the AWS CLI and of the script.
fn variables(bin: &Path) -> String {
    format!(
        "PATH={}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin AWS_ENDPOINT_URL=http://127.0.0.1:5000 \
         AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_SERVICE_ENDPOINT={}",
        bin.display(),
        metadata::URL
    )
}

#[scenario(unless = without_moto)]
fn aws_script_keeps_the_route_in_motos_ec2() {
    let ec2 = Ec2::new();
    let [own, other] = [&ec2.interfaces[0], &ec2.interfaces[1]];
    ec2.run("add", &address(1));
    assert_eq!(ec2.next_hop(SUBNET), *own);
    ec2.run("add", &address(1));
    assert_eq!(ec2.next_hop(SUBNET), *own);
    let check = ec2.aws(&format!(
        "describe-network-interface-attribute --network-interface-id {own} --attribute sourceDestCheck --query SourceDestCheck.Value"
    ));
    assert_eq!(check, "False");
    let table = ec2.aws("describe-route-tables --filters Name=route.destination-cidr-block,Values=10.244.7.0/24 --query RouteTables[0].RouteTableId");
    ec2.aws(&format!(
        "replace-route --route-table-id {table} --destination-cidr-block {SUBNET} --network-interface-id {other}"
    ));
    ec2.run("remove", &address(1));
    assert_eq!(
        ec2.next_hop(SUBNET),
        *other,
        "the route leads to another node by now"
    );
    ec2.run("add", &address(1));
    assert_eq!(ec2.next_hop(SUBNET), *own, "a changed next hop is replaced");
    for _ in 0..2 {
        ec2.run("remove", &address(1));
        assert_eq!(ec2.next_hop(SUBNET), "None");
    }
}

/// The sample of a network configuration, with flanneld on the instance.
#[scenario(unless = without_moto)]
fn aws_node_has_its_route_when_it_is_ready() {
    let ec2 = Ec2::new();
    let host = &ec2.instance.host;
    let sample = std::fs::read_to_string(format!("{SCRIPTS}/aws.json")).expect("the sample");
    let installed = "/usr/local/share/flannel/extension";
    assert!(sample.contains(installed), "{sample}");
    host.write("/run/net-conf.json", &sample.replace(installed, SCRIPTS));
    host.sh(
        "ip link add eth0 type bridge && ip addr add 172.31.0.1/24 dev eth0 && ip link set eth0 up \
             && ip route add default via 172.31.0.254",
    );
    let mut flanneld = Command::new(program("flanneld"));
    flanneld.args([
        "-listen=127.0.0.1:8888",
        "-net-config-path=/run/net-conf.json",
    ]);
    for variable in variables(&ec2.bin).split_whitespace() {
        let (name, value) = variable.split_once('=').expect("a variable");
        flanneld.env(name, value);
    }
    let daemon = host.spawn(flanneld);
    let subnet = eventually("the node has a subnet", TIMEOUT, || {
        let env = host.try_sh("sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env");
        let subnet = String::from_utf8_lossy(&env.stdout).trim().to_owned();
        (!subnet.is_empty()).then_some(subnet)
    });
    let subnet = subnet.replace(".1/24", ".0/24");
    eventually("the route is in the table", TIMEOUT, || {
        (ec2.next_hop(&subnet) == ec2.interfaces[0]).then_some(())
    });
    let log = daemon.output();
    assert!(!log.contains("exit status"), "{log}");
}
