//! The thirteen bar lengths.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// How long a bar is. Ordered from the shortest to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interval {
    /// One minute.
    M1,
    /// Three minutes.
    M3,
    /// Five minutes.
    M5,
    /// Fifteen minutes.
    M15,
    /// Thirty minutes.
    M30,
    /// Forty-five minutes.
    M45,
    /// One hour.
    H1,
    /// Two hours.
    H2,
    /// Three hours.
    H3,
    /// Four hours.
    H4,
    /// One trading day.
    D1,
    /// One week of trading days, Monday to Sunday.
    W1,
    /// One calendar month of trading days.
    Mo1,
}

/// A text that names no interval.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown interval `{0}`: use one of 1m 3m 5m 15m 30m 45m 1h 2h 3h 4h 1d 1w 1M")]
pub struct UnknownInterval(pub String);

impl Interval {
    /// Every interval, shortest first.
    pub const ALL: [Self; 13] = [
        Self::M1,
        Self::M3,
        Self::M5,
        Self::M15,
        Self::M30,
        Self::M45,
        Self::H1,
        Self::H2,
        Self::H3,
        Self::H4,
        Self::D1,
        Self::W1,
        Self::Mo1,
    ];

    /// The text form in storage, logs and on the command line; `1M` is a month.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M1 => "1m",
            Self::M3 => "3m",
            Self::M5 => "5m",
            Self::M15 => "15m",
            Self::M30 => "30m",
            Self::M45 => "45m",
            Self::H1 => "1h",
            Self::H2 => "2h",
            Self::H3 => "3h",
            Self::H4 => "4h",
            Self::D1 => "1d",
            Self::W1 => "1w",
            Self::Mo1 => "1M",
        }
    }

    /// Minutes in an intraday bar; none for days, weeks and months, whose length the calendar decides.
    pub const fn minutes(self) -> Option<u32> {
        match self {
            Self::M1 => Some(1),
            Self::M3 => Some(3),
            Self::M5 => Some(5),
            Self::M15 => Some(15),
            Self::M30 => Some(30),
            Self::M45 => Some(45),
            Self::H1 => Some(60),
            Self::H2 => Some(120),
            Self::H3 => Some(180),
            Self::H4 => Some(240),
            Self::D1 | Self::W1 | Self::Mo1 => None,
        }
    }

    /// Whether the bar is shorter than a trading day.
    pub const fn is_intraday(self) -> bool {
        self.minutes().is_some()
    }

    /// The longest time from a bar's open to its close: nominal for weeks and months (31 days).
    pub const fn nominal_length(self) -> Duration {
        match self {
            Self::M1 => Duration::from_mins(1),
            Self::M3 => Duration::from_mins(3),
            Self::M5 => Duration::from_mins(5),
            Self::M15 => Duration::from_mins(15),
            Self::M30 => Duration::from_mins(30),
            Self::M45 => Duration::from_mins(45),
            Self::H1 => Duration::from_hours(1),
            Self::H2 => Duration::from_hours(2),
            Self::H3 => Duration::from_hours(3),
            Self::H4 => Duration::from_hours(4),
            Self::D1 => Duration::from_hours(24),
            Self::W1 => Duration::from_hours(7 * 24),
            Self::Mo1 => Duration::from_hours(31 * 24),
        }
    }
}

impl FromStr for Interval {
    type Err = UnknownInterval;

    fn from_str(text: &str) -> Result<Self, UnknownInterval> {
        Self::ALL
            .into_iter()
            .find(|interval| interval.as_str() == text)
            .ok_or_else(|| UnknownInterval(text.escape_debug().to_string()))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_reads_its_own_text() {
        for interval in Interval::ALL {
            assert_eq!(interval.as_str().parse(), Ok(interval));
        }
        assert_eq!("7x".parse::<Interval>(), Err(UnknownInterval("7x".to_owned())));
        assert_ne!("1m".parse::<Interval>(), "1M".parse());
    }

    #[test]
    fn intervals_are_ordered_by_length() {
        assert!(
            Interval::ALL.is_sorted_by(|a, b| a < b && a.nominal_length() < b.nominal_length())
        );
    }
}
