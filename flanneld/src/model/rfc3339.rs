//! Times as Go writes them in JSON (RFC 3339); Go's zero time, year 1, stands for "no time".
use std::time::{Duration, SystemTime};

const ZERO: &str = "0001-01-01T00:00:00Z";
const DAY: u64 = 86_400;

/// `2026-11-21T08:22:50Z`: UTC, whole seconds; None is Go's zero time.
pub fn format(time: Option<SystemTime>) -> String {
    let Some(since) = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()) else {
        return ZERO.to_owned();
    };
    let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads any RFC 3339 time between 1970 and 9999, fractions of a second dropped; year 1 is None.
pub fn parse(text: &str) -> Result<Option<SystemTime>, String> {
    let bad = || format!("{text:?} is not a time like 2026-11-21T08:22:50Z");
    let (date_time, offset) = split_offset(text).ok_or_else(bad)?;
    let (date, clock) = date_time.split_once(['T', 't']).ok_or_else(bad)?;
    let clock = match clock.split_once('.') {
        Some((clock, fraction)) if !fraction.is_empty() && digits(fraction) => clock,
        Some(_) => return Err(bad()),
        None => clock,
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or_else(bad)?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2]).ok_or_else(bad)?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return Err(bad());
    }
    if year == 1 {
        return Ok(None);
    }
    if year < 1970 {
        return Err(bad());
    }
    let local = days_since_epoch(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let seconds = local.checked_add_signed(-offset).ok_or_else(bad)?;
    Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

/// The text without its `Z` or `+hh:mm`, and that offset in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(rest) = text.strip_suffix(['Z', 'z']) {
        return Some((rest, 0));
    }
    let (rest, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (sign, offset) = match offset.split_at_checked(1)? {
        ("+", offset) => (1, offset),
        ("-", offset) => (-1, offset),
        _ => return None,
    };
    let [hours, minutes] = numbers(offset, ':', [2, 2])?;
    let seconds = i64::try_from(hours * 3600 + minutes * 60).ok()?;
    (hours < 24 && minutes < 60).then_some((rest, sign * seconds))
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits into exactly N numbers with exactly that many digits.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts
            .next()
            .filter(|part| part.len() == width && digits(part))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before the year, counted from the (proleptic Gregorian) year 1.
fn days_before(year: u64) -> u64 {
    let past = year.saturating_sub(1);
    past * 365 + past / 4 - past / 100 + past / 400
}

fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    days_before(year) - days_before(1970) + months + day - 1
}

/// Year, month and day of a day since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // 366 days a year is an estimate that never lies after the true year
    let mut year = 1970 + days / 366;
    while days_since_epoch(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut rest = days - days_since_epoch(year, 1, 1);
    let mut month = 1;
    while rest >= days_in(year, month) {
        rest -= days_in(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_249_370, "2026-11-21T08:22:50Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(format(at(seconds)), text);
            assert_eq!(parse(text), Ok(at(seconds)), "{text}");
        }
        assert_eq!(parse(&format(None)), Ok(None));
        assert_eq!(
            parse("2026-11-21T10:22:50.123456789+02:00"),
            Ok(at(1_795_249_370))
        );
        assert_eq!(parse("1970-01-01T00:00:00-00:30"), Ok(at(1800)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
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
        fn round_trip(seconds in 0u64..253_402_300_800) {
            prop_assert_eq!(parse(&format(at(seconds))), Ok(at(seconds)));
        }
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            drop(parse(&text));
        }
    }
}
