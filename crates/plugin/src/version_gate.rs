//! Which verbs the version of a configuration allows (CNI spec 1.1, section 1; upstream: skel's
//! pluginMain).

use crate::Verb;
use cni_conf::{Code, Error, Version, ids};
use go_compat::json::Document;

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Versioned {
    name: String,
    #[serde(rename = "cniVersion")]
    cni_version: String,
}

/// Refuses CHECK of a configuration before 0.4.0, GC and STATUS before 1.1.0, and all three for a
/// version newer than those of the plugin. A wrong type is left to the full reading, which comes
/// next.
pub(crate) fn check(verb: Verb, document: &Document, supported: &[Version]) -> Result<(), Error> {
    let since = match verb {
        Verb::Check => (0, 4, 0),
        Verb::Gc | Verb::Status => (1, 1, 0),
        Verb::Add | Verb::Del | Verb::Version => return Ok(()),
    };
    let Ok(Versioned { name, cni_version }) = document.decode() else {
        return Ok(());
    };
    ids::check_network_name(&name)?;
    let version = numbers(&cni_version)?;
    let refuse = |who| {
        Err(Error::new(
            Code::IncompatibleVersion,
            format!("{who} version does not allow {}", verb.as_str()),
        ))
    };
    if version < since {
        return refuse("config");
    }
    let newest = supported.last().copied().unwrap_or(Version::CURRENT);
    if numbers(newest.as_str())? < version {
        return refuse("plugin");
    }
    Ok(())
}

/// One to three numbers with dots; "" is 0.1.0. Code 6 for anything else, as upstream's
/// ParseVersion.
fn numbers(text: &str) -> Result<(u32, u32, u32), Error> {
    if text.is_empty() {
        return Ok((0, 1, 0));
    }
    let bad = |why: String| Error::new(Code::Decode, why);
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() > 3 {
        return Err(bad(format!(
            "invalid version {text:?}: too many parts: {}",
            parts.len()
        )));
    }
    let mut numbers = [0u32; 3];
    for ((number, part), which) in numbers
        .iter_mut()
        .zip(&parts)
        .zip(["major", "minor", "micro"])
    {
        *number = part.parse().map_err(|error| {
            bad(format!(
                "failed to convert {which} version part {part:?}: {error}"
            ))
        })?;
    }
    Ok(numbers.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(verb: Verb, version: &str) -> Result<(), (u32, String)> {
        let config = format!(r#"{{"name":"n","cniVersion":"{version}"}}"#);
        let document = Document::parse(config.as_bytes()).unwrap();
        check(verb, &document, Version::ALL).map_err(|error| (error.code, error.msg))
    }

    #[test]
    fn verbs_are_refused_before_their_version() {
        assert_eq!(gate(Verb::Add, "0.1.0"), Ok(()));
        assert_eq!(gate(Verb::Del, "9.9.9"), Ok(()));
        assert_eq!(gate(Verb::Check, "0.4.0"), Ok(()));
        assert_eq!(gate(Verb::Gc, "1.1"), Ok(()));
        let refused = |who: &str, verb| Err((1, format!("{who} version does not allow {verb}")));
        assert_eq!(gate(Verb::Check, "0.3.1"), refused("config", "CHECK"));
        assert_eq!(gate(Verb::Check, ""), refused("config", "CHECK"));
        assert_eq!(gate(Verb::Gc, "1.0.0"), refused("config", "GC"));
        assert_eq!(gate(Verb::Status, "1.0.0"), refused("config", "STATUS"));
        assert_eq!(gate(Verb::Status, "1.1.1"), refused("plugin", "STATUS"));
    }

    #[test]
    fn malformed_versions_are_decode_errors() {
        for version in ["x", "1.1.0.0", "1..0", "-1"] {
            assert_eq!(gate(Verb::Gc, version).unwrap_err().0, 6, "{version}");
        }
    }
}
