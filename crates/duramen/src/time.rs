//! Points in time as people write them, and as they are shown.

use std::time::Duration;

use duramen_types::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// A point in time as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeSpec {
    /// This point.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

/// A text that is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no time: give RFC 3339 (2018-02-01T12:00:00Z), a date (2018-02-01, in UTC), \
     milliseconds since 1970, or a time ago such as 15m or 2days"
)]
pub(crate) struct TimeError {
    text: String,
}

impl TimeSpec {
    /// Reads RFC 3339, a date or a date and time without zone (both UTC), milliseconds since the
    /// epoch, or a time ago (`15m`, `2h 30m ago`).
    pub(crate) fn parse(text: &str) -> Result<Self, TimeError> {
        let trimmed = text.trim();
        if let Some(at) = parse_instant(trimmed) {
            return Ok(Self::At(at));
        }
        let ago = trimmed.strip_suffix("ago").unwrap_or(trimmed).trim_end();
        match humantime::parse_duration(ago) {
            Ok(duration) if !ago.is_empty() => Ok(Self::Ago(duration)),
            _ => Err(TimeError { text: text.to_owned() }),
        }
    }

    /// The point in time, seen from now.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => {
                let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                now.saturating_add_millis(millis.saturating_neg())
            }
        }
    }
}

/// Reads a point in time that does not depend on now.
pub(crate) fn parse_instant(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse::<i64>() {
        return Some(Timestamp::from_millis(millis));
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(from_jiff(instant));
    }
    let civil = text.parse::<DateTime>().ok();
    let civil = civil.or_else(|| Some(text.parse::<Date>().ok()?.at(0, 0, 0, 0)))?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| from_jiff(zoned.timestamp()))
}

fn from_jiff(instant: jiff::Timestamp) -> Timestamp {
    // Towards the past: a record at that very instant is not before it.
    let millis = instant.as_millisecond();
    let is_cut = instant.subsec_nanosecond() % 1_000_000 < 0;
    Timestamp::from_millis(if is_cut { millis - 1 } else { millis })
}

/// A point in time as RFC 3339 in UTC with milliseconds; the bare number where years do not reach.
pub(crate) fn show(timestamp: Timestamp) -> String {
    let millis = timestamp.as_millis();
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(instant) => format!("{instant:.3}"),
        Err(_) => millis.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<i64> {
        match TimeSpec::parse(text) {
            Ok(TimeSpec::At(at)) => Some(at.as_millis()),
            _ => None,
        }
    }

    #[test]
    fn a_time_may_be_rfc_3339() {
        assert_eq!(at("2018-01-31T01:49:59.650Z"), Some(1_517_363_399_650));
        assert_eq!(at("2018-01-31T02:49:59.650+01:00"), Some(1_517_363_399_650));
        assert_eq!(at("1969-12-31T23:59:59.999Z"), Some(-1));
        assert_eq!(at("1969-12-31T23:59:59.9995Z"), Some(-1));
    }

    #[test]
    fn a_date_begins_at_midnight_utc() {
        assert_eq!(at("2018-02-01"), Some(1_517_443_200_000));
        assert_eq!(at("2018-02-01T12:00"), Some(1_517_486_400_000));
        assert_eq!(at("2018-02-01 12:00:00"), Some(1_517_486_400_000));
    }

    #[test]
    fn a_bare_number_is_milliseconds_since_the_epoch() {
        assert_eq!(at("1517363399650"), Some(1_517_363_399_650));
        assert_eq!(at("-5"), Some(-5));
        assert_eq!(at("2018"), Some(2018), "not a year");
    }

    #[test]
    fn a_duration_is_so_long_ago() {
        let now = Timestamp::from_millis(10_000_000);
        let ago = |text: &str| TimeSpec::parse(text).unwrap().resolve(now).as_millis();
        assert_eq!(ago("15m"), 10_000_000 - 15 * 60 * 1000);
        assert_eq!(ago("1h 30m ago"), 10_000_000 - 90 * 60 * 1000);
        assert_eq!(ago("250ms"), 10_000_000 - 250);
    }

    #[test]
    fn anything_else_is_refused_and_says_what_is_taken() {
        for wrong in ["", "ago", "yesterday", "2018-13-01", "1x"] {
            assert!(TimeSpec::parse(wrong).is_err(), "{wrong}");
        }
        let error = TimeSpec::parse("yesterday").unwrap_err().to_string();
        assert!(error.starts_with("\"yesterday\" is no time: give RFC 3339"));
    }

    #[test]
    fn a_time_is_shown_as_it_is_read() {
        assert_eq!(show(Timestamp::from_millis(1_517_363_399_650)), "2018-01-31T01:49:59.650Z");
        assert_eq!(show(Timestamp::MIN), i64::MIN.to_string());
    }
}
