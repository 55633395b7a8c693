use super::*;
use proptest::prelude::*;

const STOCK: &str = r#"{"cniVersion":"0.3.1","name":"cbr0","type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}}"#;
const V4: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
const V6: &str = "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n";

fn conf(text: &str) -> Conf {
    json::from_slice(text.as_bytes()).unwrap()
}

fn derived(text: &str, env: &str) -> String {
    let env = SubnetEnv::parse(env, "subnet.env").unwrap();
    String::from_utf8(derive(&conf(text), Some(&env)).unwrap().config).unwrap()
}

fn refused(text: &str) -> String {
    derive(&conf(text), None).unwrap_err().to_string()
}

#[test]
fn stock_list_has_upstreams_bytes() {
    assert_eq!(
        derived(STOCK, V4),
        r#"{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.3.0/24"}]],"routes":[{"dst":"10.244.0.0/16"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1450,"name":"cbr0","type":"bridge"}"#
    );
}

#[test]
fn each_family_has_a_range_and_a_route() {
    assert_eq!(
        derived(r#"{"name":"n"}"#, V6),
        r#"{"ipMasq":true,"ipam":{"ranges":[[{"subnet":"fc00::/64"}]],"routes":[{"dst":"fc00::/48"}],"type":"host-local"},"isGateway":true,"mtu":1430,"name":"n","type":"bridge"}"#
    );
    assert_eq!(
        derived(
            r#"{"name":"n","delegate":{"cniVersion":"1.0.0"}}"#,
            &format!("{V4}{V6}")
        ),
        r#"{"cniVersion":"1.0.0","ipMasq":true,"ipam":{"ranges":[[{"subnet":"10.244.3.0/24"}],[{"subnet":"fc00::/64"}]],"routes":[{"dst":"10.244.0.0/16"},{"dst":"fc00::/48"}],"type":"host-local"},"isGateway":true,"mtu":1430,"name":"n","type":"bridge"}"#
    );
}

#[test]
fn each_network_has_a_route() {
    let env = V4.replace("10.244.0.0/16", "10.244.0.0/16,192.168.0.0/16");
    assert_eq!(
        derived(r#"{"name":"n","delegate":{"type":"ptp"}}"#, &env),
        r#"{"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.3.0/24"}]],"routes":[{"dst":"10.244.0.0/16"},{"dst":"192.168.0.0/16"}],"type":"host-local"},"mtu":1450,"name":"n","type":"ptp"}"#
    );
}

#[test]
fn keys_of_the_user_stay() {
    let text = r#"{"name":"n","dns":{"domain":"x"},"args":{},"capabilities":{"ips":true},
        "runtimeConfig":{"ips":["10.244.3.9"]},
        "delegate":{"type":"bridge","mtu":9000,"ipMasq":null,"isGateway":false,"vlan":1e2,"odd":"<&>","runtimeConfig":{"mac":"m"}},
        "ipam":{"type":"my-ipam","subnet":"1.2.3.0/24","ranges":[],"routes":[
            {"scope":0,"gw":"10.0.0.1","dst":"10.1.2.3/8","table":5,"priority":2,"advmss":3,"mtu":4,"odd":1},null]}}"#;
    let error = refused(text);
    assert!(error.starts_with("failed to assemble Delegate IPAM: failed to read IPAM routes: failed to parse ipam.routes: "));
    assert_eq!(
        derived(&text.replace(",null]", "]"), V4),
        concat!(
            r#"{"ipMasq":null,"ipam":{"ranges":[[{"subnet":"10.244.3.0/24"}]],"#,
            r#""routes":[{"dst":"10.1.2.3/8","gw":"10.0.0.1","mtu":4,"advmss":3,"priority":2,"table":5,"scope":0},{"dst":"10.244.0.0/16"}],"#,
            r#""subnet":"1.2.3.0/24","type":"my-ipam"},"isGateway":false,"mtu":9000,"name":"n","odd":"\u003c\u0026\u003e","#,
            r#""runtimeConfig":{"ips":["10.244.3.9"]},"type":"bridge","vlan":100}"#
        )
    );
}

#[test]
fn keys_that_only_flannel_sets_are_refused() {
    let types = "'delegate' dictionary, if present, must have (string) 'type' field";
    assert_eq!(refused(r#"{"delegate":{"type":5}}"#), types);
    assert_eq!(refused(r#"{"delegate":{"type":null}}"#), types);
    for key in ["name", "ipam"] {
        assert_eq!(
            refused(&format!("{{\"delegate\":{{\"{key}\":null}}}}")),
            format!("'delegate' dictionary must not have '{key}' field, it'll be set by flannel")
        );
    }
}

#[test]
fn without_subnets_their_keys_are_missing() {
    let delegate = derive(&conf(STOCK), None).unwrap();
    assert_eq!(delegate.plugin_type, "bridge");
    assert_eq!(
        String::from_utf8(delegate.config).unwrap(),
        r#"{"cniVersion":"0.3.1","hairpinMode":true,"ipam":{"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"name":"cbr0","type":"bridge"}"#
    );
}

#[test]
fn damaged_state_is_recognised_and_keys_are_replaced() {
    let saved = |text: &str| Delegate::from_saved(text.into());
    for damaged in ["", "\0\0", "{", "[]", "null", "{}", r#"{"type":5}"#] {
        assert_eq!(saved(damaged), None, "{damaged}");
    }
    let delegate = saved(r#"{"type":"bridge","mtu":9}"#).unwrap();
    assert_eq!(delegate.plugin_type, "bridge");
    let more = delegate.with([("mtu", json!(1)), ("a", json!({}))]);
    assert_eq!(more.config, br#"{"a":{},"mtu":1,"type":"bridge"}"#);
}

proptest! {
    #[test]
    fn no_configuration_panics(key in "type|name|ipam|routes|mtu", text in ".{0,12}", number: i32) {
        for value in [json!(text), json!(number), json!([text]), json!({"dst": text}), json!([{"dst": text}]), json!(null)] {
            let conf = Conf {
                delegate: json!({ key.clone(): value.clone() }).as_object().cloned(),
                ipam: json!({ key.clone(): value }).as_object().cloned(),
                ..Conf::default()
            };
            if let Ok(delegate) = derive(&conf, None) {
                prop_assert_eq!(Delegate::from_saved(delegate.config.clone()), Some(delegate));
            }
        }
    }
}
