use super::*;
use std::{collections::BTreeMap, os::unix::ffi::OsStringExt};

fn read_with(args: &[&str], env: &[(&str, &str)]) -> Result<Options, Error> {
    let env: BTreeMap<_, _> = env.iter().copied().collect();
    let args = args.iter().map(|arg| arg.to_string());
    Options::read(args, |key| env.get(key).map(OsString::from))
}

fn read(args: &[&str]) -> Options {
    read_with(args, &[]).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

#[test]
fn one_or_two_dashes_and_values_in_both_places_are_equal() {
    for args in [
        ["-iface", "eth1", "-healthz-port=8081"].as_slice(),
        &["--iface=eth1", "--healthz-port", "8081"],
        &["-iface=eth1", "-healthz-port", "8081"],
    ] {
        let options = read(args);
        assert_eq!(options.underlay.iface, ["eth1"]);
        assert_eq!(options.node.healthz_port, 8081);
    }
    assert_eq!(
        read(&["-iface=a", "-iface", "b"]).underlay.iface,
        ["a", "b"]
    );
    assert_eq!(
        read(&["-public-ip=1.2.3.4", "-public-ip", "5.6.7.8"])
            .underlay
            .public_ip,
        "5.6.7.8",
        "the last counts"
    );
    assert_eq!(
        read(&["-etcd-prefix", "-x"]).etcd.etcd_prefix,
        "-x",
        "the next argument, whatever it is"
    );
    assert_eq!(read(&["-etcd-prefix=a=b"]).etcd.etcd_prefix, "a=b");
}

#[test]
fn bools_are_read_as_by_go() {
    for (text, value) in [
        ("-ip-masq", true),
        ("--ip-masq", true),
        ("-ip-masq=1", true),
        ("-ip-masq=t", true),
        ("-ip-masq=TRUE", true),
        ("-ip-masq=0", false),
        ("-ip-masq=F", false),
        ("-ip-masq=False", false),
    ] {
        assert_eq!(read(&[text]).rules.ip_masq, value, "{text}");
    }
    assert!(
        read(&["-ip-masq", "-kube-subnet-mgr"]).kube.kube_subnet_mgr,
        "takes no value after it"
    );
    assert!(
        !read(&["-iptables-forward-rules=false"])
            .rules
            .iptables_forward_rules
    );
    for bad in ["-ip-masq=yes", "-ip-masq=", "-ip-masq=tRUE"] {
        assert!(read_with(&[bad], &[]).is_err(), "{bad}");
    }
}

#[test]
fn defaults_are_upstreams() {
    let options = read(&[]);
    assert_eq!(options.leases.subnet_lease_renew_margin, 60);
    assert_eq!(
        options.leases.net_config_path.to_str(),
        Some("/etc/kube-flannel/net-conf.json")
    );
    assert_eq!(
        options.node.subnet_file.to_str(),
        Some("/run/flannel/subnet.env")
    );
    assert_eq!(
        (options.node.healthz_ip.as_str(), options.node.healthz_port),
        ("0.0.0.0", 0)
    );
    assert_eq!(options.rules.iptables_resync, 5);
    assert!(options.rules.iptables_forward_rules && options.kube.set_node_network_unavailable);
    assert!(
        !options.rules.ip_masq
            && !options.rules.ip_masq_fully_random_disable
            && !options.node.version
    );
    assert_eq!(
        options.etcd.etcd_endpoints,
        "http://127.0.0.1:4001,http://127.0.0.1:2379"
    );
    assert_eq!(options.etcd.etcd_prefix, "/coreos.com/network");
    assert_eq!(
        options.kube.kube_annotation_prefix,
        "flannel.alpha.coreos.com"
    );
    assert_eq!(options.action, None);
}

#[test]
fn every_flag_of_upstream_is_known() {
    for flag in [
        "etcd-endpoints",
        "etcd-prefix",
        "etcd-keyfile",
        "etcd-certfile",
        "etcd-cafile",
        "etcd-username",
        "etcd-password",
        "iface",
        "iface-regex",
        "iface-can-reach",
        "subnet-file",
        "public-ip",
        "public-ipv6",
        "kube-api-url",
        "kubeconfig-file",
        "kube-annotation-prefix",
        "healthz-ip",
        "net-config-path",
        "vmodule",
        "log_backtrace_at",
    ] {
        read(&[&format!("-{flag}"), "x"]);
        read(&[&format!("--{flag}=x")]);
    }
    for flag in [
        "subnet-lease-renew-margin",
        "healthz-port",
        "iptables-resync",
        "v",
    ] {
        read(&[&format!("-{flag}"), "7"]);
    }
    for flag in [
        "ip-masq",
        "ip-masq-fully-random-disable",
        "kube-subnet-mgr",
        "version",
        "iptables-forward-rules",
        "ip-blackhole-route",
        "set-node-network-unavailable",
    ] {
        read(&[&format!("-{flag}")]);
    }
}

#[test]
fn environment_counts_where_the_flag_is_not_given() {
    let env = [
        ("FLANNELD_IFACE", "eth5,eth6"),
        ("FLANNELD_IP_MASQ", "T"),
        ("FLANNELD_PUBLIC_IP", ""),
        ("FLANNELD_ETCD_PREFIX", "-odd"),
        ("FLANNELD_V", "1"),
    ];
    let options = read_with(&["-v=2"], &env).unwrap();
    assert_eq!(
        options.underlay.iface,
        ["eth5,eth6"],
        "one element, not split"
    );
    assert!(options.rules.ip_masq);
    assert_eq!(options.underlay.public_ip, "");
    assert_eq!(options.etcd.etcd_prefix, "-odd");
    assert_eq!(options.node.v, 2);
}

#[test]
fn variable_that_cannot_be_read_is_refused_by_name() {
    for (variable, value) in [
        ("FLANNELD_IP_MASQ", "maybe"),
        ("FLANNELD_HEALTHZ_PORT", "many"),
        ("FLANNELD_V", "1.5"),
    ] {
        let error = read_with(&[], &[(variable, value)])
            .unwrap_err()
            .to_string();
        let named = format!("the variable {variable} cannot be used: ");
        assert!(
            error.starts_with(&named) && error.contains(value),
            "{error}"
        );
    }
    let flag_overrides = read_with(&["-ip-masq"], &[("FLANNELD_IP_MASQ", "maybe")]);
    assert!(flag_overrides.unwrap().rules.ip_masq);
    for asked in ["help", "-version"] {
        read_with(&[asked], &[("FLANNELD_IP_MASQ", "maybe")]).unwrap();
    }
    let not_unicode = |key: &str| {
        let bytes = OsStringExt::from_vec(b"eth\xff".to_vec());
        (key == "FLANNELD_IFACE").then_some(bytes)
    };
    let error = Options::read(Vec::new(), not_unicode)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("FLANNELD_IFACE") && error.contains("not Unicode"),
        "{error}"
    );
}

#[test]
fn unknown_flags_and_bad_values_are_refused() {
    for bad in [
        ["-no-such-flag"].as_slice(),
        &["-no-such=1"],
        &["cleanupp"],
        &["-healthz-port", "70000"],
        &["-iface"],
    ] {
        match read_with(bad, &[]) {
            Err(Error::Usage(text)) => assert!(
                text.ends_with("; see `flanneld -h`") && !text.contains("--"),
                "{text}"
            ),
            other => panic!("{bad:?}: {other:?}"),
        }
    }
    let margin = read_with(&["-subnet-lease-renew-margin=1440"], &[])
        .unwrap_err()
        .to_string();
    assert!(
        margin.starts_with("Invalid subnet-lease-renew-margin option, out of acceptable range"),
        "{margin}"
    );
    assert!(read_with(&["-subnet-lease-renew-margin=-5"], &[]).is_err());
}

#[test]
fn action_may_stand_anywhere() {
    assert_eq!(read(&["cleanup"]).action, Some(Action::Cleanup));
    assert_eq!(
        read(&["-subnet-file", "/x", "cleanup"]).action,
        Some(Action::Cleanup)
    );
    assert_eq!(
        read(&["cleanup", "--subnet-file=/x"])
            .node
            .subnet_file
            .to_str(),
        Some("/x")
    );
}

#[test]
fn secrets_are_not_shown() {
    let options = read_with(&["-etcd-username=u", "-etcd-password", "hunter2"], &[]);
    let options = options.unwrap();
    assert_eq!(
        options.given,
        ["-etcd-username=u", "-etcd-password=(not shown)"]
    );
    let shown = format!("{options:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("(not shown)"),
        "{shown}"
    );
    let options = read_with(&[], &[("FLANNELD_ETCD_PASSWORD", "hunter2")]);
    assert!(!format!("{:?}", options.unwrap()).contains("hunter2"));
}

#[test]
fn help_names_the_subnet_managers() {
    let help = help();
    for text in [
        "  -listen HOST:PORT ",
        "  -remote HOST:PORT ",
        "  -ip-masq ",
        "  cleanup ",
        "FLANNELD_IP_MASQ",
        "[default: 60]",
    ] {
        assert!(help.contains(text), "{text} in\n{help}");
    }
    assert!(
        !help.contains("default: false") && !help.contains("default: ]"),
        "{help}"
    );
}

#[test]
fn help_fits_a_terminal_has_one_dash_and_says_what_each_flag_does() {
    let help = help();
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains("--"), "{line}");
    }
    let described = command();
    for arg in described.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let flag = arg.get_long().unwrap_or_default();
        assert!(arg.get_help().is_some(), "-{flag} has no description");
    }
    let (_, compatibility) = help.split_once("Flags of Go flanneld, accepted").unwrap();
    for flag in ["log_backtrace_at", "vmodule"] {
        assert!(compatibility.contains(&format!("  -{flag}")), "{help}");
    }
}

#[test]
fn version_and_help_are_commands() {
    assert_eq!(read(&["version"]).action, Some(Action::Version));
    assert_eq!(read(&["help", "pki"]).arguments, ["pki"]);
    for bad in [["version", "x"], ["cleanup", "x"]] {
        let refused = read_with(&bad, &[]);
        assert!(
            matches!(refused, Err(Error::UnexpectedArgument(_))),
            "{bad:?}"
        );
    }
    for flag in ["-h", "-help", "--help"] {
        assert!(matches!(read_with(&[flag], &[]), Err(Error::Help)));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_command_line_panics(
        args in proptest::collection::vec("-{0,3}(iface|v|ip-masq|h|=|[a-z]{0,3})(=?[-=a-zA-Z0-9 \\PC]{0,4})?", 0..4),
        value in "\\PC{0,8}",
    ) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        drop(read_with(&args, &[("FLANNELD_IFACE", &value), ("FLANNELD_V", &value), ("FLANNELD_IP_MASQ", &value)]));
    }
}
