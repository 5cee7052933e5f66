//! Times and durations as people write and read them.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use prost_types::{Duration as PbDuration, Timestamp as PbTimestamp};

/// Reads a time: a date, which is its midnight in UTC, or RFC 3339.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let mistake = || {
        "give a date such as `2024-01-31` (midnight UTC) or a time such as `2024-01-31T09:30:00Z`"
            .to_owned()
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // jiff also takes a time of day after the date, and forgets it.
    let date = text.parse::<Date>().ok().filter(|_| !text.contains([':', 'T', 't', ' ']));
    let midnight = date.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    midnight.map(|midnight| midnight.timestamp()).ok_or_else(mistake)
}

/// Reads a duration above zero, such as `250ms`, `2s`, `7d`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be above zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("give a duration such as `250ms`, `2s` or `5m`".to_owned()),
    }
}

/// Reads a duration that may be negative: `1h`, `-90s`.
pub(super) fn parse_offset(text: &str) -> Result<SignedDuration, String> {
    let (negative, length) = match text.strip_prefix('-') {
        Some(length) => (true, length),
        None => (false, text),
    };
    let mistake = || "give a duration such as `1h` or `-90s`".to_owned();
    let length = humantime::parse_duration(length).map_err(|_| mistake())?;
    let length = SignedDuration::try_from(length).map_err(|_| mistake())?;
    Ok(if negative { -length } else { length })
}

/// A time in protobuf.
pub(super) fn to_pb(time: Timestamp) -> PbTimestamp {
    PbTimestamp::from(std::time::SystemTime::from(time))
}

/// A time of the server's; nothing where it is none.
pub(super) fn from_pb(time: Option<PbTimestamp>) -> Option<Timestamp> {
    let PbTimestamp { seconds, nanos } = time?;
    Timestamp::new(seconds, nanos).ok()
}

/// RFC 3339 in UTC; empty where there is no time.
pub(super) fn show_time(time: Option<PbTimestamp>) -> String {
    from_pb(time).map(|time| time.to_string()).unwrap_or_default()
}

/// The minute of a time in UTC, as in `2024-01-31 09:30`; empty where there is no time.
pub(super) fn show_minute(time: Option<PbTimestamp>) -> String {
    let minute = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M").to_string();
    from_pb(time).map(minute).unwrap_or_default()
}

/// A length of time of the server's, as people read it: `1s 250ms`; empty where there is none.
pub(super) fn show_duration(duration: Option<PbDuration>) -> String {
    let read = |duration| {
        let duration = Duration::try_from(duration).ok()?;
        let millis = u64::try_from(duration.as_millis()).ok()?;
        Some(humantime::format_duration(Duration::from_millis(millis)).to_string())
    };
    duration.and_then(read).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_its_midnight_in_utc() {
        let midnight: Timestamp = "2024-01-31T00:00:00Z".parse().unwrap();
        assert_eq!(parse_time("2024-01-31"), Ok(midnight));
        assert_eq!(parse_time("2024-01-31T01:00:00+01:00"), Ok(midnight));
    }

    #[test]
    fn a_time_of_no_zone_is_refused_rather_than_guessed() {
        for text in ["2024-01-31T09:30", "2024-01-31 09:30:00", "yesterday", "2024-02-30", ""] {
            assert!(parse_time(text).unwrap_err().contains("2024-01-31T09:30:00Z"), "{text}");
        }
    }

    #[test]
    fn times_survive_protobuf_before_1970_too() {
        for text in ["1969-12-31T23:59:59.5Z", "2018-02-09T09:28:14Z"] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(show_time(Some(to_pb(time))), text);
        }
    }

    #[test]
    fn a_duration_is_above_zero() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("0s").is_err() && parse_duration("soon").is_err());
    }

    #[test]
    fn an_offset_may_be_negative() {
        assert_eq!(parse_offset("1h"), Ok(SignedDuration::from_hours(1)));
        assert_eq!(parse_offset("-90s"), Ok(SignedDuration::from_secs(-90)));
        assert!(parse_offset("--1s").is_err() && parse_offset("").is_err());
    }
}
