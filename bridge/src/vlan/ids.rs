//! The VLAN IDs that the configuration asks for.

use crate::Error;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The highest usable ID (IEEE 802.1Q reserves 4095).
const MAX: i64 = 4094;

/// The VLANs of a pod's port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vlans {
    /// `vlan`: the VLAN of untagged frames.
    pub(crate) access: Option<u16>,
    /// `vlanTrunk`: the VLANs of tagged frames, ascending.
    pub(crate) trunk: Vec<u16>,
    /// The port keeps the bridge's default VLAN.
    pub(crate) preserve_default: bool,
}

impl Vlans {
    /// True if the bridge has to filter VLANs.
    pub(crate) fn any(&self) -> bool {
        self.access.is_some() || !self.trunk.is_empty()
    }
}

/// One element of `vlanTrunk`: `{"id": N}`, `{"minID": A, "maxID": B}`, or both.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Trunk {
    #[serde(rename = "minID")]
    min_id: Option<u32>,
    #[serde(rename = "maxID")]
    max_id: Option<u32>,
    id: Option<u32>,
}

/// Checks `vlan`; 0 means none.
pub(crate) fn access(id: i64) -> Result<Option<u16>, Error> {
    match u16::try_from(id) {
        Ok(0) => Ok(None),
        Ok(vid) if id <= MAX => Ok(Some(vid)),
        _ => Err(Error::InvalidVlan(id)),
    }
}

/// Checks `vlanTrunk`: the distinct IDs, ascending.
pub(crate) fn trunk(items: &[Trunk]) -> Result<Vec<u16>, Error> {
    let mut ids = BTreeSet::new();
    for item in items {
        match (item.min_id, item.max_id) {
            (Some(min), Some(max)) => {
                let min = valid(min, "incorrect trunk minID parameter")?;
                let max = valid(max, "incorrect trunk maxID parameter")?;
                if min > max {
                    return Err(Error::Trunk(
                        "minID is greater than maxID in trunk parameter",
                    ));
                }
                ids.extend(min..=max);
            }
            (None, Some(_)) => {
                return Err(Error::Trunk(
                    "minID and maxID should be configured simultaneously, minID is missing",
                ));
            }
            (Some(_), None) => {
                return Err(Error::Trunk(
                    "minID and maxID should be configured simultaneously, maxID is missing",
                ));
            }
            (None, None) => {}
        }
        if let Some(id) = item.id {
            ids.insert(valid(id, "incorrect trunk id parameter")?);
        }
    }
    Ok(ids.into_iter().collect())
}

fn valid(id: u32, message: &'static str) -> Result<u16, Error> {
    u16::try_from(id)
        .ok()
        .filter(|&id| id > 0 && i64::from(id) <= MAX)
        .ok_or(Error::Trunk(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(min_id: Option<u32>, max_id: Option<u32>, id: Option<u32>) -> Trunk {
        Trunk { min_id, max_id, id }
    }

    #[test]
    fn access_id_is_at_most_4094() {
        assert_eq!(access(0).unwrap(), None);
        assert_eq!(access(100).unwrap(), Some(100));
        assert_eq!(access(4094).unwrap(), Some(4094));
        for bad in [-1, 4095, 70_000] {
            let text = access(bad).unwrap_err().to_string();
            assert_eq!(
                text,
                format!("invalid VLAN ID {bad} (must be between 0 and 4094)")
            );
        }
    }

    #[test]
    fn trunk_ids_are_merged_and_sorted() {
        let items = [
            span(Some(5), Some(7), None),
            span(None, None, Some(3)),
            span(Some(6), Some(8), Some(4094)),
        ];
        assert_eq!(trunk(&items).unwrap(), [3, 5, 6, 7, 8, 4094]);
        assert!(trunk(&[]).unwrap().is_empty());
    }

    #[test]
    fn invalid_trunks_are_refused_with_upstreams_messages() {
        let cases = [
            (
                span(Some(0), Some(3), None),
                "incorrect trunk minID parameter",
            ),
            (
                span(Some(1), Some(4095), None),
                "incorrect trunk maxID parameter",
            ),
            (
                span(Some(9), Some(3), None),
                "minID is greater than maxID in trunk parameter",
            ),
            (
                span(None, Some(3), None),
                "minID and maxID should be configured simultaneously, minID is missing",
            ),
            (
                span(Some(3), None, None),
                "minID and maxID should be configured simultaneously, maxID is missing",
            ),
            (span(None, None, Some(0)), "incorrect trunk id parameter"),
        ];
        for (item, message) in cases {
            assert_eq!(trunk(&[item]).unwrap_err().to_string(), message);
        }
    }
}
