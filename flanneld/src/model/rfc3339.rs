//! Times as Go writes them in JSON (RFC 3339). Go's zero time, the start of year 1, stands for "no
//! time".

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de};
use std::time::SystemTime;

const GO_ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// The text is not a time that a lease can have.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0:?} is not a time like 2026-11-21T08:22:50Z")]
struct InvalidTime(String);

pub(crate) fn serialize<S: Serializer>(
    time: &Option<SystemTime>,
    out: S,
) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format(*time))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    json: D,
) -> Result<Option<SystemTime>, D::Error> {
    match Option::<String>::deserialize(json)? {
        Some(text) => parse(&text).map_err(de::Error::custom),
        None => Ok(None),
    }
}

/// `2026-11-21T08:22:50Z`: UTC, whole seconds. None, and a time that RFC 3339 cannot express, are
/// Go's zero time.
fn format(time: Option<SystemTime>) -> String {
    let seconds = time
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.map_or(GO_ZERO_TIME.to_owned(), |time| time.to_string())
}

/// Reads an RFC 3339 time from 1970 on and drops fractions of a second. Go's zero time is None.
fn parse(text: &str) -> Result<Option<SystemTime>, InvalidTime> {
    let invalid = || InvalidTime(text.to_owned());
    let time: Timestamp = text.parse().map_err(|_| invalid())?;
    if time.to_string() == GO_ZERO_TIME {
        return Ok(None);
    }
    let whole = Timestamp::from_second(time.as_second()).ok();
    match whole.filter(|time| *time >= Timestamp::UNIX_EPOCH) {
        Some(time) => Ok(Some(time.into())),
        None => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn known_times_round_trip() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_249_370, "2026-11-21T08:22:50Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(format(at(seconds)), text);
            assert_eq!(parse(text).ok(), Some(at(seconds)), "{text}");
        }
        assert_eq!(parse(&format(None)).ok(), Some(None));
        assert_eq!(
            parse("2026-11-21T10:22:50.123456789+02:00").ok(),
            Some(at(1_795_249_370))
        );
        assert_eq!(parse("1970-01-01T00:00:00-00:30").ok(), Some(at(1800)));
    }

    #[test]
    fn malformed_times_and_times_before_1970_are_refused() {
        for bad in [
            "",
            "Z",
            "2026-11-21",
            "2026-11-21T08:22:50",
            "2026-13-21T08:22:50Z",
            "2026-02-29T08:22:50Z",
            "2026-11-21T24:22:50Z",
            "2026-11-21T08:22:50.Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2026-11-21T08:22:50+0é:0",
            "+026-11-21T08:22:50Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_time_round_trips(seconds in 0..Timestamp::MAX.as_second() as u64) {
            prop_assert_eq!(parse(&format(at(seconds))).ok(), Some(at(seconds)));
        }
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            drop(parse(&text));
        }
    }
}
