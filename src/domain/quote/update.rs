//! A partial update: only what changed.

use std::time::Duration;

use jiff::Timestamp;

/// A field of a partial update. What is absent stays as it was; what is unset has no value now.
/// Which values of a wire stand for "no value" is decided by the provider's adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Not mentioned: as it was.
    #[default]
    Absent,
    /// Said to have no value.
    Unset,
    /// Said to be this.
    Set(T),
}

/// Whether the instrument trades, as the provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// In its regular session.
    InSession,
    /// Before, after or between sessions, or on a holiday.
    OutOfSession,
}

/// What a provider says about one instrument in one message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuoteUpdate {
    /// Last price of the regular session.
    pub last_price: Field<f64>,
    /// When that was traded.
    pub last_time: Field<Timestamp>,
    /// Volume of the trading day so far.
    pub volume: Field<f64>,
    /// Best bid.
    pub bid: Field<f64>,
    /// Best ask.
    pub ask: Field<f64>,
    /// Change against the previous close.
    pub change: Field<f64>,
    /// The same in percent.
    pub change_percent: Field<f64>,
    /// First price of the trading day.
    pub open_price: Field<f64>,
    /// Highest price of the trading day.
    pub high_price: Field<f64>,
    /// Lowest price of the trading day.
    pub low_price: Field<f64>,
    /// Close of the trading day before.
    pub prev_close: Field<f64>,
    /// Whether it trades.
    pub session: Field<SessionState>,
    /// How late the quotes are.
    pub delay: Field<Duration>,
}

impl<T: Copy + PartialEq> Field<T> {
    /// The value that replaces `known`, and whether it differs from it.
    pub(super) fn merge_into(self, known: &mut Option<T>) -> bool {
        let new = match self {
            Self::Absent => return false,
            Self::Unset => None,
            Self::Set(value) => Some(value),
        };
        let changed = *known != new;
        *known = new;
        changed
    }
}

impl<T> From<Option<T>> for Field<T> {
    /// None is [`Field::Unset`].
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unset, Self::Set)
    }
}
