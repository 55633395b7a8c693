//! Moving the leases of a network from one store to another: `flanneld lease export | import`.
//!
//! The document is JSON:
//!
//! ```text
//! {"version":1,"config":{NET-CONF},"leases":[LEASE, ...]}
//! ```
//!
//! A LEASE is that of the lease API. One without end (`"Expiration":"0001-01-01T00:00:00Z"`) is a
//! reservation. An imported lease gets a whole life, so that its node has time to renew it.

mod decide;

pub(crate) use decide::Outcome;

use super::{BoxFuture, Error, alloc::Owned};
use crate::model::{
    Subnets,
    lease::{Lease, LeaseAttrs},
    network_config::NetworkConfig,
};
use decide::decide;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the document that this program writes and reads.
const VERSION: u32 = 1;

/// The leases of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Export {
    version: u32,
    /// The network configuration, as its store has it.
    pub(crate) config: Value,
    pub(crate) leases: Vec<Lease>,
}

/// Why a document cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    /// It is no JSON, or a lease in it cannot be read.
    #[error("it is not what `flanneld lease export` writes: {0}")]
    Json(#[source] go_compat::json::Error),
    /// Another program version wrote it.
    #[error("it has version {found}, and this flanneld reads version {VERSION}")]
    Version { found: u32 },
    /// One document names the same subnets twice, or overlapping ones.
    #[error("{0} and {1} overlap in it: delete one of the two")]
    Overlap(Subnets, Subnets),
}

impl Export {
    /// The leases of a network with this configuration.
    pub(crate) fn of(config: &NetworkConfig, leases: Vec<Lease>) -> Result<Export, Error> {
        let config = serde_json::from_str(&config.raw);
        let config = config.map_err(|error| Error::Permanent(Box::new(error)))?;
        Ok(Export::new(config, leases))
    }

    /// `leases` in the order of their subnets.
    fn new(config: Value, mut leases: Vec<Lease>) -> Export {
        leases.sort_by_key(|lease| lease.subnets);
        Export {
            version: VERSION,
            config,
            leases,
        }
    }

    /// Reads a document. A single lease that cannot be read refuses the whole of it: nothing is
    /// written yet.
    pub(crate) fn parse(text: &[u8]) -> Result<Export, DocumentError> {
        let export: Export = go_compat::json::from_slice(text).map_err(DocumentError::Json)?;
        if export.version != VERSION {
            return Err(DocumentError::Version {
                found: export.version,
            });
        }
        let mut leases: Vec<Subnets> = export.leases.iter().map(|lease| lease.subnets).collect();
        leases.sort_unstable();
        match decide::first_overlap(&leases) {
            Some((one, other)) => Err(DocumentError::Overlap(one, other)),
            None => Ok(export),
        }
    }

    /// The document, a lease a line.
    pub(crate) fn to_text(&self) -> serde_json::Result<String> {
        let leases = self.leases.iter().map(serde_json::to_string);
        let leases = leases.collect::<Result<Vec<_>, _>>()?.join(",\n");
        let config = serde_json::to_string(&self.config)?;
        Ok(format!(
            "{{\"version\":{},\"config\":{config},\"leases\":[\n{leases}\n]}}\n",
            self.version
        ))
    }
}

/// What a store holds before an import.
pub(crate) struct Held {
    /// Its network, which has passed `check_subnets`.
    pub(crate) config: NetworkConfig,
    /// Its leases and reservations.
    pub(crate) leases: Vec<(Subnets, LeaseAttrs)>,
}

/// A store whose leases can be read as a whole and, except for Kubernetes, written.
pub(crate) trait LeaseArchive: Send + Sync {
    /// For messages: "etcd http://10.0.0.1:2379".
    fn describe(&self) -> String;
    /// Every lease and reservation, at one moment.
    fn export(&self) -> BoxFuture<'_, Result<Export, Error>>;
    /// What the store holds. A store without a network configuration takes that of the export.
    fn held<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<Held, Error>>;
    /// Writes a lease that [`decide`] lets in; another outcome than `Added` if a node was faster.
    fn add<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Outcome, Error>>;

    /// Writes the leases that the store does not have; what it has stays. One outcome a lease, in
    /// the document's order.
    fn import<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<Vec<Outcome>, Error>> {
        Box::pin(async move {
            let Held { config, leases } = self.held(export).await?;
            let mut held: Vec<Owned<'_>> =
                leases.iter().map(|(key, attrs)| (*key, attrs)).collect();
            let mut outcomes = Vec::with_capacity(export.leases.len());
            for lease in &export.leases {
                let mut outcome = decide(&config, &held, lease);
                if outcome == Outcome::Added {
                    outcome = self.add(lease).await?;
                    held.push((lease.subnets, &lease.attrs));
                }
                outcomes.push(outcome);
            }
            Ok(outcomes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, SystemTime};

    fn lease(subnets: &str, ip: [u8; 4], ends: bool) -> Lease {
        Lease {
            subnets: subnets.parse().unwrap(),
            attrs: LeaseAttrs {
                public_ip: Some(ip.into()),
                backend_type: "vxlan".to_owned(),
                backend_data: Some(json!({"VNI":1,"VtepMAC":"02:00:00:00:00:01"})),
                ..LeaseAttrs::default()
            },
            expiration: ends.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        }
    }

    #[test]
    fn document_round_trips() {
        let leases = vec![
            lease("10.1.3.0-24", [1, 2, 3, 5], false),
            lease("10.1.2.0-24&fd00::-64", [1, 2, 3, 4], true),
        ];
        let export = Export::new(json!({"Network": "10.1.0.0/16"}), leases);
        let text = export.to_text().unwrap();
        assert_eq!(Export::parse(text.as_bytes()).unwrap(), export);
        assert_eq!(
            text.lines().count(),
            4,
            "a lease a line, for grep and diff: {text}"
        );
    }

    #[test]
    fn unusable_document_is_refused_as_a_whole() {
        let config = json!({"Network": "10.1.0.0/16"});
        let twice = vec![
            lease("10.1.2.0-24", [1, 2, 3, 4], true),
            lease("10.1.2.0-25", [1, 2, 3, 5], true),
        ];
        let overlap = Export::new(config, twice).to_text().unwrap();
        for (text, reason) in [
            ("", "not what `flanneld lease export` writes"),
            ("[]", "not what"),
            (r#"{"version":2,"config":{},"leases":[]}"#, "version 2"),
            (r#"{"version":1,"config":{}}"#, "leases"),
            (
                r#"{"version":1,"config":{},"leases":[{"Subnet":"x"}]}"#,
                "Subnet",
            ),
            (overlap.as_str(), "overlap"),
        ] {
            let error = Export::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
