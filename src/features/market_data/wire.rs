//! What all slices say and read the same way in protobuf.

use jiff::Timestamp;
use prost_types::{Duration as PbDuration, Timestamp as PbTimestamp};

use crate::common::error::FieldViolations;
use crate::domain::ohlcv::{Bar, BarSource, BarState};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::domain::sync::SyncState;
use crate::proto::v1 as pb;

/// The seconds that a protobuf timestamp may hold: from 0001-01-01 to the end of 9999-12-31.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const INTERVALS: &str = "INTERVAL_1M, INTERVAL_1H, INTERVAL_1D, ...";

/// Reads request fields and notes what is wrong with them.
pub(super) trait ReadFields {
    /// The symbol in `symbol`.
    fn symbol(&mut self, text: &str) -> Option<Symbol>;
    /// The interval in `interval`.
    fn interval(&mut self, value: i32) -> Option<Interval>;
    /// The series that `symbol` and `interval` name.
    fn series(&mut self, symbol: &str, interval: i32) -> Option<Series>;
    /// A time, if there is one.
    fn time(&mut self, field: &str, value: Option<PbTimestamp>) -> Option<Timestamp>;
    /// A range of two optional times, the first before the second.
    fn range(
        &mut self,
        start: Option<PbTimestamp>,
        end: Option<PbTimestamp>,
    ) -> (Option<Timestamp>, Option<Timestamp>);
    /// A number between 1 and `most`, `default` where there is none.
    fn count(&mut self, field: &str, value: Option<i32>, default: i32, most: i32) -> u32;
    /// An exchange to filter by, upper-cased.
    fn exchange(&mut self, value: Option<String>) -> Option<String>;
}

impl ReadFields for FieldViolations {
    fn symbol(&mut self, text: &str) -> Option<Symbol> {
        self.check("symbol", Symbol::parse(text))
    }

    fn interval(&mut self, value: i32) -> Option<Interval> {
        let interval = pb::Interval::try_from(value).ok().and_then(interval_from_pb);
        match interval {
            None if value == 0 => self.push("interval", format!("is required: {INTERVALS}")),
            None => self.push("interval", format!("must be one of {INTERVALS}; {value} is none")),
            Some(_) => {}
        }
        interval
    }

    fn series(&mut self, symbol: &str, interval: i32) -> Option<Series> {
        let (symbol, interval) = (self.symbol(symbol), self.interval(interval));
        Some(Series::new(symbol?, interval?))
    }

    fn time(&mut self, field: &str, value: Option<PbTimestamp>) -> Option<Timestamp> {
        let value = value?;
        let fits = SECONDS.contains(&value.seconds) && (0..1_000_000_000).contains(&value.nanos);
        if !fits {
            self.push(field, "must be a time between the years 1 and 9999");
            return None;
        }
        // The last hours of the year 9999 are past the library's last time, and as far as any.
        Some(Timestamp::new(value.seconds, value.nanos).unwrap_or(Timestamp::MAX))
    }

    fn range(
        &mut self,
        start: Option<PbTimestamp>,
        end: Option<PbTimestamp>,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let range = (self.time("start_time", start), self.time("end_time", end));
        if let (Some(start), Some(end)) = range
            && start >= end
        {
            self.push("end_time", "must be after start_time: ranges are [start_time, end_time)");
        }
        range
    }

    fn count(&mut self, field: &str, value: Option<i32>, default: i32, most: i32) -> u32 {
        let value = value.unwrap_or(default);
        if !(1..=most).contains(&value) {
            self.push(field, format!("must be 1 to {most}, not {value}; absent means {default}"));
        }
        value.try_into().unwrap_or(1)
    }

    fn exchange(&mut self, value: Option<String>) -> Option<String> {
        let exchange = value?.to_ascii_uppercase();
        // An exchange is right when a symbol on it is.
        if Symbol::new(&exchange, "A").is_err() {
            self.push("exchange", "must be letters, digits and _, such as NASDAQ");
        }
        Some(exchange)
    }
}

/// `page_size` as the contract has it: 0 and absent are the default, more than the most is the
/// caller's mistake.
pub(super) fn page_size(violations: &mut FieldViolations, value: i32) -> u32 {
    use crate::common::constants::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
    let asked = (value != 0).then_some(value);
    violations.count("page_size", asked, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
}

/// A time in protobuf.
pub(super) fn timestamp(time: Timestamp) -> PbTimestamp {
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    // Protobuf counts nanoseconds forward, also before 1970.
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    PbTimestamp { seconds, nanos }
}

/// A length of time in protobuf.
pub(super) fn duration(duration: std::time::Duration) -> PbDuration {
    PbDuration {
        seconds: duration.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().try_into().unwrap_or_default(),
    }
}

/// Where a sync stands, in protobuf.
pub(super) const fn sync_state(state: SyncState) -> pb::SyncState {
    match state {
        SyncState::Pending => pb::SyncState::Pending,
        SyncState::Syncing => pb::SyncState::Syncing,
        SyncState::Completed => pb::SyncState::Completed,
        SyncState::Error => pb::SyncState::Error,
    }
}

/// A count in protobuf; what does not fit is the most that does.
pub(super) fn count(value: u64) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

/// An interval in protobuf.
pub(super) const fn interval(interval: Interval) -> pb::Interval {
    match interval {
        Interval::M1 => pb::Interval::Interval1m,
        Interval::M3 => pb::Interval::Interval3m,
        Interval::M5 => pb::Interval::Interval5m,
        Interval::M15 => pb::Interval::Interval15m,
        Interval::M30 => pb::Interval::Interval30m,
        Interval::M45 => pb::Interval::Interval45m,
        Interval::H1 => pb::Interval::Interval1h,
        Interval::H2 => pb::Interval::Interval2h,
        Interval::H3 => pb::Interval::Interval3h,
        Interval::H4 => pb::Interval::Interval4h,
        Interval::D1 => pb::Interval::Interval1d,
        Interval::W1 => pb::Interval::Interval1w,
        Interval::Mo1 => pb::Interval::Interval1mo,
    }
}

/// An interval of the contract; none where there is no such.
pub(super) fn interval_from_pb(value: pb::Interval) -> Option<Interval> {
    Interval::ALL.into_iter().find(|each| interval(*each) == value)
}

/// A bar state in protobuf.
pub(super) const fn bar_state(state: BarState) -> pb::BarState {
    match state {
        BarState::Forming => pb::BarState::Forming,
        BarState::Closed => pb::BarState::Closed,
        BarState::Revised => pb::BarState::Revised,
    }
}

/// A bar in protobuf.
pub(super) fn bar(bar: &Bar) -> pb::Bar {
    let Bar { range, stored } = bar;
    let source = match stored.source {
        BarSource::Provider => pb::BarSource::Provider,
        BarSource::Ticks => pb::BarSource::Ticks,
        BarSource::Repair => pb::BarSource::Repair,
    };
    pb::Bar {
        open_time: Some(timestamp(range.open())),
        close_time: Some(timestamp(range.close())),
        open: stored.values.open(),
        high: stored.values.high(),
        low: stored.values.low(),
        close: stored.values.close(),
        volume: stored.values.volume(),
        state: bar_state(stored.state()).into(),
        revision: count(stored.revision().into()),
        source: source.into(),
        tick_count: stored.tick_count.map(|ticks| count(ticks.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::common::error::Coded as _;

    #[test]
    fn every_interval_of_the_contract_is_one_of_ours_and_back() {
        for each in Interval::ALL {
            assert_eq!(interval_from_pb(interval(each)), Some(each));
        }
        assert_eq!(interval_from_pb(pb::Interval::Unspecified), None);
    }

    #[test]
    fn an_interval_that_was_given_is_not_called_missing() {
        for (value, expected) in [(0, "is required: "), (99, "99 is none"), (-1, "-1 is none")] {
            let mut violations = FieldViolations::default();
            assert_eq!(violations.interval(value), None);
            let error = violations.into_result().unwrap_err();
            let said = &error.violations()[0].description;
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn every_time_that_protobuf_has_is_one_and_no_other() {
        let read = |seconds, nanos| {
            let mut violations = FieldViolations::default();
            violations.time("t", Some(PbTimestamp { seconds, nanos }))
        };
        assert_eq!(read(-62_135_596_800, 0).unwrap().to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(read(253_402_300_799, 999_999_999), Some(Timestamp::MAX), "the far end");
        for (seconds, nanos) in
            [(-62_135_596_801, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)]
        {
            assert_eq!(read(seconds, nanos), None, "{seconds} s, {nanos} ns");
        }
    }

    proptest! {
        #[test]
        fn a_time_comes_back_as_it_was_sent(milliseconds in -62_000_000_000_000_i64..200_000_000_000_000) {
            let time = Timestamp::from_millisecond(milliseconds).unwrap();
            let mut violations = FieldViolations::default();
            prop_assert_eq!(violations.time("t", Some(timestamp(time))), Some(time));
            prop_assert!(violations.is_empty());
        }
    }
}
