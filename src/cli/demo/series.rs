//! The series that the demo syncs, and how each is checked against its file.

use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;

use super::super::times::from_pb;
use crate::domain::shared::Interval;
use crate::proto::v1::Bar;

/// A series of the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoSeries {
    /// `EXCHANGE:CODE`.
    pub(super) symbol: &'static str,
    /// Its bar length.
    pub(super) interval: Interval,
    /// Whether all of it is asked for, or the newest 5,000 bars.
    pub(super) full: bool,
    /// The file that its bars come from.
    pub(super) file: &'static str,
    /// Whether the provider made its bars of the file's shorter ones.
    pub(super) rolled_up: bool,
}

/// What is shown, in this order.
pub(super) const SERIES: [DemoSeries; 4] = [
    DemoSeries {
        symbol: "BINANCE:BTCUSDT",
        interval: Interval::H1,
        full: true,
        file: "BINANCE_BTCUSDT_1h",
        rolled_up: false,
    },
    DemoSeries {
        symbol: "NYSE:IBM",
        interval: Interval::D1,
        full: false,
        file: "NYSE_IBM_1d",
        rolled_up: false,
    },
    DemoSeries {
        symbol: "NASDAQ:AAPL-UNADJ",
        interval: Interval::D1,
        full: false,
        file: "NASDAQ_AAPL-UNADJ_1d",
        rolled_up: false,
    },
    DemoSeries {
        symbol: "BINANCE:BTCUSDT",
        interval: Interval::D1,
        full: false,
        file: "BINANCE_BTCUSDT_1h",
        rolled_up: true,
    },
];

impl DemoSeries {
    /// `BINANCE:BTCUSDT 1h`.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.symbol, self.interval)
    }

    /// How many bars `bars` should be, going by the file's `times`.
    ///
    /// One for each row; of a rolled-up series, one for each that rows fall into, and no row may
    /// fall between two bars.
    pub(super) fn expected(&self, bars: &[Bar], times: &[Timestamp]) -> anyhow::Result<usize> {
        if !self.rolled_up {
            return Ok(times.len());
        }
        let ranges: Vec<_> = bars
            .iter()
            .filter_map(|bar| from_pb(bar.open_time).zip(from_pb(bar.close_time)))
            .collect();
        ensure!(ranges.len() == bars.len(), "{}: a bar has no time", self.name());
        let mut expected = 0;
        let mut last = None;
        for time in times {
            let bar = ranges.partition_point(|range| range.0 <= *time).checked_sub(1);
            let inside = bar.and_then(|bar| ranges.get(bar)).is_some_and(|range| *time < range.1);
            ensure!(inside, "{}: no bar holds {time}", self.name());
            expected += usize::from(last != bar);
            last = bar;
        }
        Ok(expected)
    }

    /// How many of the file's rows are stored when the oldest stored bar opens at `oldest`: bars
    /// come newest first.
    pub(super) fn stored(&self, times: &[Timestamp], oldest: Timestamp) -> usize {
        // A day's row is stamped with its date, and its bar opens with the session.
        let slack =
            if self.interval.is_intraday() { Duration::ZERO } else { Duration::from_hours(23) };
        let later = |time: &Timestamp| time.saturating_add(slack).is_ok_and(|time| time < oldest);
        times.len() - times.partition_point(later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::times::to_pb;

    fn times(texts: &[&str]) -> Vec<Timestamp> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn hours(texts: &[&str]) -> Vec<Bar> {
        let bar = |open: Timestamp| Bar {
            open_time: Some(to_pb(open)),
            close_time: Some(to_pb(open + Duration::from_hours(1))),
            ..Bar::default()
        };
        times(texts).into_iter().map(bar).collect()
    }

    #[test]
    fn a_rolled_up_series_has_a_bar_for_each_hour_with_rows() {
        let rows = times(&["2013-09-02T10:01:00Z", "2013-09-02T10:59:00Z", "2013-09-02T12:00:00Z"]);
        let bars = hours(&["2013-09-02T10:00:00Z", "2013-09-02T12:00:00Z"]);
        assert_eq!(SERIES[3].expected(&bars, &rows).unwrap(), 2);
        let too_many =
            hours(&["2013-09-02T10:00:00Z", "2013-09-02T11:00:00Z", "2013-09-02T12:00:00Z"]);
        assert_eq!(SERIES[3].expected(&too_many, &rows).unwrap(), 2);
        assert!(SERIES[3].expected(&bars[1..], &rows).is_err());
    }

    #[test]
    fn what_is_stored_is_counted_from_the_newest() {
        let days = times(&["2013-02-27T00:00:00Z", "2013-02-28T00:00:00Z", "2013-03-01T00:00:00Z"]);
        let open = "2013-02-28T14:30:00Z".parse().unwrap();
        assert_eq!(SERIES[1].stored(&days, open), 2);
        assert_eq!(SERIES[0].stored(&days, days[2]), 1);
    }
}
