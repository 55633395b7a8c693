//! Rates and bursts: the plugin's keys, or else `runtimeConfig.bandwidth`.

use crate::error::Failure;
use go_compat::json::Document;
use linux_net::tc::Tbf;
use std::time::Duration;

/// The longest delay of a packet in a bucket's queue, as upstream.
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

/// The buckets; None means no limit.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Bandwidth {
    /// for traffic to the container
    pub(crate) ingress: Option<Tbf>,
    /// for traffic from the container
    pub(crate) egress: Option<Tbf>,
}

impl Bandwidth {
    pub(crate) fn read(config: &Document) -> Result<Bandwidth, Failure> {
        let keys: Keys = config.decode()?;
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] = keys.rates();
        Ok(Bandwidth {
            ingress: bucket(ingress_rate, ingress_burst)?,
            egress: bucket(egress_rate, egress_burst)?,
        })
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

impl Keys {
    /// Ingress rate and burst, egress rate and burst. One key in the configuration hides all of the
    /// runtime's values, as upstream.
    fn rates(self) -> [u64; 4] {
        let own = [
            self.ingress_rate,
            self.ingress_burst,
            self.egress_rate,
            self.egress_burst,
        ];
        match self.runtime_config.bandwidth {
            Some(entry) if own.iter().all(Option::is_none) => [
                entry.ingress_rate,
                entry.ingress_burst,
                entry.egress_rate,
                entry.egress_burst,
            ],
            _ => own.map(Option::unwrap_or_default),
        }
    }
}

/// `rate` in bits a second, `burst` in bits.
fn bucket(rate: u64, burst: u64) -> Result<Option<Tbf>, Failure> {
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (_, 0) => return Err(Failure::NoBurst),
        (0, _) => return Err(Failure::NoRate),
        _ => {}
    }
    match u32::try_from(burst / 8) {
        Ok(bytes) if bytes < u32::MAX => Ok(Some(Tbf::new(rate / 8, bytes, LATENCY))),
        _ => Err(Failure::BurstTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Bandwidth, String> {
        let config = Document::parse(json.as_bytes()).unwrap();
        Bandwidth::read(&config).map_err(|failure| failure.to_string())
    }

    #[test]
    fn any_own_key_hides_all_runtime_values() {
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
    fn rate_without_burst_or_burst_beyond_32_bits_is_refused() {
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
