//! How a run of a job ended.

use std::str::FromStr;

use thiserror::Error;

/// How a run of a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobOutcome {
    /// It did all that it was to do.
    Succeeded,
    /// It did some of it: what failed stopped nothing else.
    Partial,
    /// It did none of it.
    Failed,
    /// It took too long and was ended.
    TimedOut,
    /// A stop or a crash cut it off.
    Interrupted,
}

/// A text that names no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` names no outcome of a job")]
pub struct UnknownJobOutcome(pub String);

impl JobOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::Partial, Self::Failed, Self::TimedOut, Self::Interrupted];

    /// The word used in storage, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
        }
    }
}

impl FromStr for JobOutcome {
    type Err = UnknownJobOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownJobOutcome> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.as_str() == text);
        found.ok_or_else(|| UnknownJobOutcome(text.to_owned()))
    }
}
