//! Which bars a client asks for: `1`, `60`, `1H`, `1D`, `D`, `1W`, `1M`.

use crate::domain::shared::Interval;

/// What a resolution's text comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Resolution {
    /// One of the thirteen.
    Served(Interval),
    /// A resolution, but none of ours: the reason in the provider's words.
    Refused(&'static str),
}

/// Reads `text`; none where it is no resolution at all. A bare number is minutes.
pub(in crate::simulator) fn read_resolution(text: &str) -> Option<Resolution> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(unit_at)?;
    let count: u32 = match digits {
        "" => 1,
        digits => digits.parse().ok().filter(|count| (1..=100_000).contains(count))?,
    };
    let minutes = |count: u32| {
        let same = |interval: &Interval| interval.minutes() == Some(count);
        Interval::ALL.into_iter().find(same)
    };
    let served = match (unit, count) {
        ("", _) if !digits.is_empty() => minutes(count),
        ("H", _) => minutes(count.saturating_mul(60)),
        ("D", 1) => Some(Interval::D1),
        ("W", 1) => Some(Interval::W1),
        ("M", 1) => Some(Interval::Mo1),
        ("D" | "W" | "M", _) => None,
        ("S", _) => return Some(Resolution::Refused("seconds_not_entitled")),
        ("T", _) => return Some(Resolution::Refused("ticks_not_entitled")),
        _ => return None,
    };
    Some(served.map_or(Resolution::Refused("custom_resolution"), Resolution::Served))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_are_read() {
        for (text, interval) in [
            ("1", Interval::M1),
            ("45", Interval::M45),
            ("60", Interval::H1),
            ("1H", Interval::H1),
            ("240", Interval::H4),
            ("4H", Interval::H4),
            ("D", Interval::D1),
            ("1D", Interval::D1),
            ("W", Interval::W1),
            ("1M", Interval::Mo1),
            ("M", Interval::Mo1),
        ] {
            assert_eq!(read_resolution(text), Some(Resolution::Served(interval)), "{text}");
        }
    }

    #[test]
    fn what_is_not_served_says_why() {
        for (text, reason) in [
            ("2D", "custom_resolution"),
            ("7", "custom_resolution"),
            ("20", "custom_resolution"),
            ("3M", "custom_resolution"),
            ("30S", "seconds_not_entitled"),
            ("1T", "ticks_not_entitled"),
        ] {
            assert_eq!(read_resolution(text), Some(Resolution::Refused(reason)), "{text}");
        }
        for text in ["", "XX", "0", "-1", "1m", "1Mo", "99999999999"] {
            assert_eq!(read_resolution(text), None, "{text}");
        }
    }
}
