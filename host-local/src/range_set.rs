//! A set of ranges of one family (upstream: `RangeSet`). A container gets one address of each set.

use crate::range::{ParsedSpec, Range, RangeError, offset};
use std::{fmt, net::IpAddr};

/// At least one range; the ranges do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<Range>);

impl RangeSet {
    pub(crate) fn new(specs: &[ParsedSpec]) -> Result<RangeSet, RangeError> {
        let mut ranges: Vec<Range> = Vec::with_capacity(specs.len());
        for spec in specs {
            let range = Range::new(spec)?;
            if (ranges.first()).is_some_and(|first| first.start.is_ipv4() != range.start.is_ipv4())
            {
                return Err(RangeError::MixedFamilies);
            }
            ranges.push(range);
        }
        if ranges.is_empty() {
            return Err(RangeError::EmptySet);
        }
        for (i, one) in ranges.iter().enumerate() {
            for two in ranges.iter().skip(i + 1) {
                if one.overlaps(two) {
                    return Err(RangeError::Overlap(Box::new(*one), Box::new(*two)));
                }
            }
        }
        Ok(RangeSet(ranges))
    }

    /// False: all addresses are IPv6.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.0.iter().all(|range| range.start.is_ipv4())
    }

    pub(crate) fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(ip))
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.range_of(ip).is_some()
    }

    /// True if the sets have an address in common.
    pub(crate) fn overlaps(&self, other: &RangeSet) -> bool {
        self.0
            .iter()
            .any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }

    /// The distinct addresses that can be allocated, each with its range, in round-robin order:
    /// from the address after `last` through all ranges to `last` itself. If `last` is not in the
    /// set, from the first address.
    pub(crate) fn candidates(
        &self,
        last: Option<IpAddr>,
    ) -> impl Iterator<Item = (IpAddr, &Range)> {
        let at = last.and_then(|last| {
            let index = self.0.iter().position(|range| range.contains(last))?;
            Some((index, last))
        });
        let mut spans: Vec<(&Range, IpAddr, IpAddr)> = self
            .0
            .iter()
            .map(|range| (range, range.start, range.end))
            .collect();
        if let Some((index, last)) = at {
            spans.rotate_left(index);
            if let Some(first) = spans.first_mut() {
                let (range, start, end) = *first;
                *first = (range, offset(last, 1), end);
                // the first span is empty; the last address of the family has no successor either
                if last == end {
                    spans.remove(0);
                }
                spans.push((range, start, last));
            }
        }
        spans.into_iter().flat_map(|(range, from, to)| {
            Range::span(from, to)
                .filter(move |ip| *ip != range.gateway)
                .map(move |ip| (ip, range))
        })
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::range::RangeSpec;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Ranges given as `subnet`, or `subnet start end`.
    pub(crate) fn set(ranges: &[&str]) -> Result<RangeSet, RangeError> {
        let parse = |range: &&str| {
            let mut words = range.split(' ').map(str::to_owned);
            let spec = RangeSpec {
                subnet: words.next(),
                range_start: words.next(),
                range_end: words.next(),
                gateway: words.next(),
            };
            spec.parse().unwrap()
        };
        RangeSet::new(&ranges.iter().map(parse).collect::<Vec<_>>())
    }

    fn order(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        let last = last.map(|ip| ip.parse().unwrap());
        set.candidates(last).map(|(ip, _)| ip.to_string()).collect()
    }

    #[test]
    fn candidates_begin_after_the_last_allocated_address() {
        let set = set(&["10.0.0.0/29", "10.9.0.0/30"]).unwrap();
        let all = [
            "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.9.0.2",
        ];
        assert_eq!(order(&set, None), all);
        assert_eq!(order(&set, Some("192.0.2.1")), all);
        assert_eq!(order(&set, Some("10.0.0.1")), all);
        assert_eq!(
            order(&set, Some("10.0.0.4")),
            [
                "10.0.0.5", "10.0.0.6", "10.9.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.4"
            ]
        );
        assert_eq!(
            order(&set, Some("10.0.0.6")),
            [
                "10.9.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"
            ]
        );
        assert_eq!(order(&set, Some("10.9.0.2"))[0], "10.0.0.2");
        assert_eq!(
            set.to_string(),
            "10.0.0.1-10.0.0.6,10.9.0.1-10.9.0.2",
            "the form of error messages"
        );
    }

    #[test]
    fn candidates_end_at_the_last_address_of_the_family() {
        let v4 = set(&["255.255.255.0/24 255.255.255.254 255.255.255.255"]).unwrap();
        let both = ["255.255.255.254", "255.255.255.255"];
        assert_eq!(order(&v4, None), both);
        assert_eq!(order(&v4, Some("255.255.255.255")), both);
        let end = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff";
        let v6 = set(&[&format!("{end}0/124 {end}e {end}f")]).unwrap();
        assert_eq!(order(&v6, Some(&format!("{end}f"))).len(), 2);
    }

    #[test]
    fn candidates_of_a_large_range_are_computed_lazily() {
        let v6 = set(&["fd00::/48"]).unwrap();
        let (first, _) = v6
            .candidates(Some("fd00::ff".parse().unwrap()))
            .next()
            .unwrap();
        assert_eq!(first.to_string(), "fd00::100");
    }

    #[test]
    fn invalid_sets_are_refused_with_upstreams_messages() {
        assert_eq!(set(&[]).unwrap_err().to_string(), "empty range set");
        assert_eq!(
            set(&["10.0.0.0/24", "fd00::/64"]).unwrap_err(),
            RangeError::MixedFamilies
        );
        assert_eq!(
            set(&["10.0.0.0/24", "10.0.0.0/25"])
                .unwrap_err()
                .to_string(),
            "subnets 10.0.0.1-10.0.0.254 and 10.0.0.1-10.0.0.126 overlap"
        );
        let halves = [
            "10.0.0.0/24 10.0.0.1 10.0.0.9",
            "10.0.0.0/24 10.0.0.10 10.0.0.20",
        ];
        assert!(set(&halves).is_ok(), "one subnet, two ranges");
    }

    proptest! {
        #[test]
        fn candidates_are_distinct_and_complete(starts in proptest::collection::vec(0u8..8, 1..4), last in any::<u16>()) {
            let ranges: Vec<_> = starts.iter().enumerate()
                .map(|(i, start)| format!("10.0.{i}.0/28 10.0.{i}.{start} 10.0.{i}.{}", start + 3))
                .collect();
            let set = set(&ranges.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            let last: IpAddr = std::net::Ipv4Addr::new(10, 0, (last >> 8) as u8 % 4, last as u8 % 16).into();
            let given: Vec<_> = set.candidates(Some(last)).map(|(ip, _)| ip).collect();
            let distinct: HashSet<_> = given.iter().copied().collect();
            prop_assert_eq!(distinct.len(), given.len());
            let all: HashSet<_> = set.candidates(None).map(|(ip, _)| ip).collect();
            prop_assert_eq!(distinct, all);
            for (ip, range) in set.candidates(Some(last)) {
                prop_assert!(range.contains(ip) && ip != range.gateway);
            }
            if set.contains(last) && given.contains(&last) {
                prop_assert_eq!(*given.last().unwrap(), last);
            }
        }
    }
}
