//! The time axis that comes with bars.

use std::sync::Arc;

use serde::Serialize;

use super::bars_message::seconds;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;
use crate::simulator::world::WorldBar;

/// `[weight, time, index]`: heavier marks are drawn first.
type Mark = (u32, i64, usize);

/// The third parameter of `timescale_update`.
#[derive(Debug, Serialize)]
pub(super) struct Timescale {
    index: usize,
    zoffset: u8,
    changes: Vec<f64>,
    marks: Vec<Mark>,
    index_diff: Vec<(usize, usize)>,
}

impl Timescale {
    /// The axis of `bars`, the first of which has the index `first`; `prepended` are new before
    /// those known already.
    pub(super) fn new(
        bars: &[WorldBar],
        first: usize,
        prepended: usize,
        interval: Interval,
        session: &Arc<TradingSession>,
    ) -> Self {
        Self {
            index: first,
            zoffset: 0,
            changes: bars.iter().map(|bar| seconds(bar.open_time)).collect(),
            marks: marks(bars, first, interval, session),
            index_diff: (prepended > 0).then_some((0, prepended)).into_iter().collect(),
        }
    }
}

/// A mark for each new trading day. From a day up its time is midnight UTC of the trading date,
/// which tells the date of sessions that open on the evening before.
fn marks(
    bars: &[WorldBar],
    first: usize,
    interval: Interval,
    session: &Arc<TradingSession>,
) -> Vec<Mark> {
    let mut clock = BarClock::new(Arc::clone(session), Interval::D1);
    let mut day = None;
    let mut date = None;
    let mut marks = Vec::new();
    for (index, bar) in bars.iter().enumerate() {
        let range = clock.bounds_of(bar.open_time).close();
        if day.replace(range) == Some(range) {
            continue;
        }
        let in_utc = || bar.open_time.to_zoned(jiff::tz::TimeZone::UTC).date();
        let today = session.trading_day_at(bar.open_time).unwrap_or_else(in_utc);
        let weight = match date.replace(today) {
            Some(before) if before.year() != today.year() => 60,
            Some(before) if before.month() != today.month() => 50,
            Some(before)
                if before.weekday().to_monday_zero_offset()
                    > today.weekday().to_monday_zero_offset() =>
            {
                40
            }
            Some(_) | None => 10,
        };
        let midnight = today.to_zoned(jiff::tz::TimeZone::UTC).map(|time| time.timestamp());
        let time = match midnight {
            Ok(midnight) if !interval.is_intraday() => midnight,
            Ok(_) | Err(_) => bar.open_time,
        };
        marks.push((weight, time.as_second(), first + index));
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::symbol::SessionSpec;

    fn bar(time: &str) -> WorldBar {
        let open_time = time.parse().unwrap();
        WorldBar { open_time, open: 1.0, high: 1.0, low: 1.0, close: 1.0, volume: None }
    }

    #[test]
    fn a_days_mark_is_midnight_of_its_trading_date() {
        let spec = SessionSpec {
            timezone: "America/Chicago".to_owned(),
            session: "1700-1600".to_owned(),
            ..SessionSpec::default()
        };
        let session = Arc::new(TradingSession::parse(&spec).unwrap());
        let bars = [bar("2013-09-01T22:00:00Z"), bar("2013-09-02T22:00:00Z")];
        let marks = marks(&bars, 5, Interval::D1, &session);
        // 2013-09-02 and 2013-09-03, 00:00Z.
        assert_eq!(marks, [(10, 1_378_080_000, 5), (10, 1_378_166_400, 6)]);
    }
}
