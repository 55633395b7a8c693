//! VLAN ids of a bridge port: which ones the configuration asks for.
use crate::Error;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The highest usable id (IEEE 802.1Q; 4095 is reserved).
const MAX: i64 = 4094;

/// One element of `vlanTrunk`: `{"id": N}`, `{"minID": A, "maxID": B}`, or both.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Trunk {
    /// first id of a span
    #[serde(rename = "minID")]
    pub min_id: Option<u32>,
    /// last id of a span
    #[serde(rename = "maxID")]
    pub max_id: Option<u32>,
    /// a single id
    pub id: Option<u32>,
}

/// `vlan`: 0 is none.
pub fn access(id: i64) -> Result<Option<u16>, Error> {
    match u16::try_from(id) {
        Ok(0) => Ok(None),
        Ok(vid) if id <= MAX => Ok(Some(vid)),
        _ => Err(Error::InvalidVlan(id)),
    }
}

/// `vlanTrunk`: every id that is asked for, once, in order.
pub fn trunk(items: &[Trunk]) -> Result<Vec<u16>, Error> {
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
    fn access_ids() {
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
    fn trunks_are_merged_and_sorted() {
        let items = [
            span(Some(5), Some(7), None),
            span(None, None, Some(3)),
            span(Some(6), Some(8), Some(4094)),
        ];
        assert_eq!(trunk(&items).unwrap(), [3, 5, 6, 7, 8, 4094]);
        assert!(trunk(&[]).unwrap().is_empty());
    }

    #[test]
    fn each_mistake_has_its_message() {
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
