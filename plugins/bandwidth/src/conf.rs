//! Rates and bursts: keys of the configuration, or else what the runtime gives as `runtimeConfig.bandwidth`.
use cni_conf::Error;
use linux_net::tc::Tbf;
use plugin::Call;
use std::time::Duration;

/// How long a packet may wait for its turn.
const LATENCY: Duration = Duration::from_millis(25);

#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
    runtime_config: RuntimeConfig,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct RuntimeConfig {
    bandwidth: Option<Entry>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

/// The buckets; None is no limit.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Bandwidth {
    /// towards the container
    pub(crate) ingress: Option<Tbf>,
    /// from the container
    pub(crate) egress: Option<Tbf>,
}

impl Bandwidth {
    pub(crate) fn read(call: &Call) -> Result<Bandwidth, Error> {
        let keys: Keys = go_compat::json::from_slice(&call.config).map_err(|error| {
            Error::internal(format!("failed to parse network configuration: {error}"))
        })?;
        keys.buckets()
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

impl Keys {
    /// A single key in the configuration hides all that the runtime says, as upstream has it.
    fn buckets(self) -> Result<Bandwidth, Error> {
        let own = [
            self.ingress_rate,
            self.ingress_burst,
            self.egress_rate,
            self.egress_burst,
        ];
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] =
            match self.runtime_config.bandwidth {
                Some(entry) if own.iter().all(Option::is_none) => [
                    entry.ingress_rate,
                    entry.ingress_burst,
                    entry.egress_rate,
                    entry.egress_burst,
                ],
                _ => own.map(Option::unwrap_or_default),
            };
        Ok(Bandwidth {
            ingress: bucket(ingress_rate, ingress_burst)?,
            egress: bucket(egress_rate, egress_burst)?,
        })
    }
}

/// From bits a second and bits.
fn bucket(rate: u64, burst: u64) -> Result<Option<Tbf>, Error> {
    let refuse = |why| Err(Error::internal(why));
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (_, 0) => return refuse("if rate is set, burst must also be set"),
        (0, _) => return refuse("if burst is set, rate must also be set"),
        _ => {}
    }
    match u32::try_from(burst / 8) {
        Ok(bytes) if bytes < u32::MAX => Ok(Some(Tbf::new(rate / 8, bytes, LATENCY))),
        _ => refuse("burst cannot be more than 4GB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    fn read(json: &str) -> Result<Bandwidth, String> {
        let keys: Keys = json::from_slice(json.as_bytes()).map_err(|error| error.to_string())?;
        keys.buckets().map_err(|error| error.msg)
    }

    #[test]
    fn own_keys_hide_the_runtimes() {
        let tbf = |rate, burst| Some(Tbf::new(rate, burst, LATENCY));
        let runtime = r#""runtimeConfig":{"bandwidth":{"ingressRate":8000,"ingressBurst":80000,"egressRate":16,"egressBurst":80}}"#;
        assert_eq!(
            read(&format!("{{{runtime}}}")),
            Ok(Bandwidth {
                ingress: tbf(1000, 10_000),
                egress: tbf(2, 10)
            })
        );
        assert_eq!(
            read(&format!(
                r#"{{"egressRate":80,"egressBurst":800,{runtime}}}"#
            )),
            Ok(Bandwidth {
                ingress: None,
                egress: tbf(10, 100)
            })
        );
        assert_eq!(
            read(&format!(r#"{{"INGRESSRATE":0,{runtime}}}"#)),
            Ok(Bandwidth::default())
        );
        assert_eq!(read("{}"), Ok(Bandwidth::default()));
    }

    #[test]
    fn halves_are_refused() {
        for (json, why) in [
            (
                r#"{"ingressRate":8}"#,
                "if rate is set, burst must also be set",
            ),
            (
                r#"{"egressBurst":8}"#,
                "if burst is set, rate must also be set",
            ),
            (
                r#"{"egressRate":8,"egressBurst":34359738360}"#,
                "burst cannot be more than 4GB",
            ),
            (
                r#"{"egressRate":8,"egressBurst":18446744073709551615}"#,
                "burst cannot be more than 4GB",
            ),
        ] {
            assert_eq!(read(json), Err(why.into()), "{json}");
        }
        assert!(read(r#"{"ingressRate":-1}"#).is_err());
        assert!(read(r#"{"ingressRate":"1M"}"#).is_err());
    }
}
