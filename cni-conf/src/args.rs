//! `CNI_ARGS` (`K=V;K=V`), as Go's types.LoadArgs reads it.

use crate::Error;

/// The key with which a runtime may send keys that a plugin does not know. Kubernetes runtimes
/// always send it.
const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

/// The pairs in order. Code 999 `ARGS: invalid pair "x"` for anything but `K=V`.
fn parse(args: &str) -> Result<Vec<(String, String)>, Error> {
    if args.is_empty() {
        return Ok(Vec::new());
    }
    args.split(';')
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !value.contains('=') => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::internal(format!("ARGS: invalid pair {pair:?}"))),
        })
        .collect()
}

/// The values of the `known` keys (case-sensitive), in that order; the last of a repeated key wins.
/// Code 999 `ARGS: unknown args ["FOO=1"]` for other keys unless IgnoreUnknown is 1 or true.
pub fn load(args: &str, known: &[&str]) -> Result<Vec<Option<String>>, Error> {
    let pairs = parse(args)?;
    let mut values = vec![None; known.len()];
    let mut unknown = Vec::new();
    let mut ignore_unknown = false;
    for (key, value) in pairs {
        if key == IGNORE_UNKNOWN {
            ignore_unknown = boolean(&value)?;
        } else if let Some(slot) = known.iter().position(|name| *name == key) {
            values[slot] = Some(value);
        } else {
            unknown.push(format!("{:?}", format!("{key}={value}")));
        }
    }
    if unknown.is_empty() || ignore_unknown {
        return Ok(values);
    }
    Err(Error::internal(format!(
        "ARGS: unknown args [{}]",
        unknown.join(" ")
    )))
}

/// types.UnmarshallableBool: 1, 0, true and false in any case.
fn boolean(value: &str) -> Result<bool, Error> {
    match value.to_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Error::internal(format!(
            "ARGS: error parsing value of pair {:?}: boolean unmarshal error: invalid input {value}",
            format!("{IGNORE_UNKNOWN}={value}")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KUBERNETES: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;IP=10.244.1.9;\
                              K8S_POD_INFRA_CONTAINER_ID=0123abcd";

    #[test]
    fn keys_of_kubernetes_are_ignored() {
        assert_eq!(
            load(KUBERNETES, &["MAC", "IP"]),
            Ok(vec![None, Some("10.244.1.9".into())])
        );
        assert_eq!(load("", &["IP"]), Ok(vec![None]));
    }

    #[test]
    fn errors_have_upstreams_wording() {
        let message = |args| load(args, &["IP"]).unwrap_err();
        assert_eq!(message("IP").msg, r#"ARGS: invalid pair "IP""#);
        assert_eq!(message("IP=1;").msg, r#"ARGS: invalid pair """#);
        assert_eq!(message("IP=1=2").msg, r#"ARGS: invalid pair "IP=1=2""#);
        assert_eq!(
            message("FOO=1;ip=2").msg,
            r#"ARGS: unknown args ["FOO=1" "ip=2"]"#
        );
        assert_eq!(message("FOO=1;IgnoreUnknown=0").code, 999);
        assert_eq!(
            message("IgnoreUnknown=maybe").msg,
            r#"ARGS: error parsing value of pair "IgnoreUnknown=maybe": boolean unmarshal error: invalid input maybe"#
        );
    }

    #[test]
    fn last_of_a_repeated_key_wins() {
        assert_eq!(
            load("IP=1;IgnoreUnknown=TRUE;IP=2;X=", &["IP"]),
            Ok(vec![Some("2".into())])
        );
    }

    proptest! {
        #[test]
        fn parse_reads_what_was_joined(pairs in prop::collection::vec(("[a-zA-Z]{1,8}", "[^;=]{0,8}"), 1..5)) {
            let text: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            prop_assert_eq!(parse(&text.join(";")), Ok(pairs));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            load(&text, &["IP"]).ok();
        }
    }
}
