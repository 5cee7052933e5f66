//! How a market is replayed: how fast, how often, and at which time.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

/// The greatest speed and rate that are not `max`.
const MOST: f64 = 1e7;

/// How fast trades follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Times real time. Pauses within a session are kept; `--loop` skips those between passes.
    Speed(f64),
    /// Trades a second, whatever time lies between them.
    Rate(f64),
    /// As fast as the slowest client that reads takes them, so that each sees every trade.
    Max,
}

/// Why a text is no [`Pace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PaceError {
    /// A speed is `max` or a number.
    #[error("give a number above 0 and up to 10000000, or `max`")]
    Speed,
    /// A rate is a number.
    #[error("give a number of updates a second, above 0 and up to 10000000")]
    Rate,
}

impl Pace {
    /// Reads a speed: `1`, `0.5`, `1000`, `max`.
    pub fn speed(text: &str) -> Result<Self, PaceError> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        positive(text).map(Self::Speed).ok_or(PaceError::Speed)
    }

    /// Reads a rate: updates a second.
    pub fn rate(text: &str) -> Result<Self, PaceError> {
        positive(text).map(Self::Rate).ok_or(PaceError::Rate)
    }
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= MOST)
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Speed(times) => write!(f, "{times} times real time"),
            Self::Rate(rate) => write!(f, "{rate} updates a second"),
            Self::Max => f.write_str("as fast as clients read"),
        }
    }
}

/// Where the first trade lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebase {
    /// At the machine's time when the replay starts.
    Now,
    /// At a given time.
    At(Timestamp),
}

/// Why a text is no [`Rebase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("give `now` or a time such as `2024-01-31T09:30:00Z`")]
pub struct RebaseError;

impl FromStr for Rebase {
    type Err = RebaseError;

    fn from_str(text: &str) -> Result<Self, RebaseError> {
        if text.eq_ignore_ascii_case("now") {
            return Ok(Self::Now);
        }
        text.parse().map(Self::At).map_err(|_| RebaseError)
    }
}

/// A world that moves. A symbol with trades replays them; see [`Self::walk`] for the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplayConfig {
    /// How fast.
    pub pace: Pace,
    /// Start again after the last trade, a whole number of weeks later.
    pub looping: bool,
    /// Symbols without trades replay their newest so many bars as open, low, high and close, the
    /// volume in four parts. Without it they stand still.
    pub walk: Option<u32>,
    /// Move the trades, by whole seconds. The symbol's calendar stays if it suits them there as
    /// well as where they were; else it is `24x7`.
    pub rebase: Option<Rebase>,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self { pace: Pace::Speed(1.0), looping: false, walk: None, rebase: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_above_zero_and_finite() {
        assert_eq!(Pace::speed("max"), Ok(Pace::Max));
        assert_eq!(Pace::speed("0.5"), Ok(Pace::Speed(0.5)));
        assert_eq!(Pace::rate("5000"), Ok(Pace::Rate(5_000.0)));
        for wrong in ["0", "-1", "inf", "nan", "", "fast", "1e9"] {
            assert_eq!(Pace::speed(wrong), Err(PaceError::Speed), "{wrong}");
        }
        assert_eq!(Pace::rate("max"), Err(PaceError::Rate));
    }

    #[test]
    fn a_rebase_is_now_or_a_time() {
        assert_eq!("now".parse(), Ok(Rebase::Now));
        let time = "2013-09-01T22:00:00Z";
        assert_eq!(time.parse(), Ok(Rebase::At(time.parse().unwrap())));
        assert_eq!("soon".parse::<Rebase>(), Err(RebaseError));
    }
}
