//! Cells on real calendars, reasons by their order, and segments that tile whatever was asked for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::CoverageReason::{Data, FeedDown, MarketClosed, NoTrades, NotSynced, ProviderEmpty};
use super::{Cell, Cells, CoverageFacts, CoverageReason, RangeSet, Segment, Segments, TimeRange};
use crate::domain::ohlcv::BarRange;
use crate::domain::shared::Interval::{self, D1, H1, M1, M45, Mo1, W1};
use crate::domain::symbol::{SessionSpec, TradingSession};

const NEW_YORK: (&str, &str, &str, &str) = (
    "America/New_York",
    "0930-1600",
    "20121029,20121030,20121122,20121225,20130101,20130121,20130218,20130329",
    "0930-1300:20121123,20121224",
);
const ES: (&str, &str, &str, &str) = ("America/Chicago", "1700-1600", "", "1700-1030:20130902");
const CRYPTO: (&str, &str, &str, &str) = ("Etc/UTC", "24x7", "", "");
const TOKYO: (&str, &str, &str, &str) = ("Asia/Tokyo", "0900-1130,1230-1530", "", "");
/// Sunday has a session of its own, which ends while Monday's is open.
const OVERLAPPING: (&str, &str, &str, &str) = ("Etc/UTC", "1700-1600|1000-2000:1", "", "");
/// A week without any session.
const GOLDEN_WEEK: (&str, &str, &str, &str) =
    ("Asia/Tokyo", "0900-1500", "20130429,20130430,20130501,20130502,20130503", "");

fn session(
    (timezone, session, holidays, corrections): (&str, &str, &str, &str),
) -> Arc<TradingSession> {
    let spec = SessionSpec {
        timezone: timezone.to_owned(),
        session: session.to_owned(),
        holidays: holidays.to_owned(),
        corrections: corrections.to_owned(),
    };
    Arc::new(TradingSession::parse(&spec).unwrap())
}

fn at(text: &str) -> Timestamp {
    let text = if text.len() == 16 { format!("{text}:00Z") } else { format!("{text}Z") };
    text.parse().unwrap()
}

fn range(open: &str, close: &str) -> TimeRange {
    BarRange::new(at(open), at(close)).unwrap()
}

/// The cells of a stretch: open, close, and whether the market opens at all.
fn cells(
    spec: (&str, &str, &str, &str),
    interval: Interval,
    open: &str,
    close: &str,
) -> Vec<(String, String, bool)> {
    let text = |time: Timestamp| time.to_string().replace(":00Z", "");
    let cells = Cells::new(session(spec), interval, at(open), at(close));
    cells
        .map(|cell| (text(cell.range.open()), text(cell.range.close()), cell.bar.is_some()))
        .collect()
}

fn rows(rows: &[(&str, &str, bool)]) -> Vec<(String, String, bool)> {
    rows.iter().map(|(open, close, trades)| ((*open).into(), (*close).into(), *trades)).collect()
}

#[test]
fn a_daily_cell_reaches_from_a_dates_open_to_the_next_dates() {
    // Thanksgiving, an early close, a weekend; nights belong to the day.
    let expected = rows(&[
        ("2012-11-21T14:30", "2012-11-22T14:30", true),
        ("2012-11-22T14:30", "2012-11-23T14:30", false),
        ("2012-11-23T14:30", "2012-11-24T14:30", true),
        ("2012-11-24T14:30", "2012-11-25T14:30", false),
        ("2012-11-25T14:30", "2012-11-26T14:30", false),
        ("2012-11-26T14:30", "2012-11-27T14:30", true),
    ]);
    assert_eq!(cells(NEW_YORK, D1, "2012-11-22T02:00", "2012-11-27T00:00"), expected);
}

#[test]
fn daily_cells_are_an_hour_shorter_or_longer_where_clocks_change() {
    let spring = cells(NEW_YORK, D1, "2013-03-09T15:00", "2013-03-11T14:00");
    let expected = rows(&[
        ("2013-03-09T14:30", "2013-03-10T13:30", false),
        ("2013-03-10T13:30", "2013-03-11T13:30", false),
        ("2013-03-11T13:30", "2013-03-12T13:30", true),
    ]);
    assert_eq!(spring, expected);
    let autumn = cells(ES, D1, "2013-11-02T12:00", "2013-11-04T12:00");
    let expected = rows(&[
        ("2013-11-01T22:00", "2013-11-02T22:00", false),
        ("2013-11-02T22:00", "2013-11-03T23:00", false),
        ("2013-11-03T23:00", "2013-11-04T23:00", true),
    ]);
    assert_eq!(autumn, expected);
}

#[test]
fn a_week_and_a_month_reach_from_their_first_open_to_the_next_ones() {
    let weeks = cells(NEW_YORK, W1, "2012-10-24T15:00", "2012-11-06T15:00");
    let expected = rows(&[
        ("2012-10-22T13:30", "2012-10-31T13:30", true),
        ("2012-10-31T13:30", "2012-11-05T14:30", true),
        ("2012-11-05T14:30", "2012-11-12T14:30", true),
    ]);
    assert_eq!(weeks, expected, "the city was under water on Monday and Tuesday");
    let months = cells(CRYPTO, Mo1, "2020-01-31T23:59", "2020-03-01T00:00");
    let expected = rows(&[
        ("2020-01-01T00:00", "2020-02-01T00:00", true),
        ("2020-02-01T00:00", "2020-03-01T00:00", true),
    ]);
    assert_eq!(months, expected);
    let golden = cells(GOLDEN_WEEK, W1, "2013-04-24T00:00", "2013-05-07T00:00");
    let expected = rows(&[
        ("2013-04-22T00:00", "2013-04-29T00:00", true),
        ("2013-04-29T00:00", "2013-05-06T00:00", false),
        ("2013-05-06T00:00", "2013-05-13T00:00", true),
    ]);
    assert_eq!(golden, expected, "a week without a session is a closed cell");
}

#[test]
fn intraday_cells_are_the_sessions_grid() {
    let day = cells(TOKYO, M45, "2024-01-10T01:40", "2024-01-10T04:00");
    let expected = rows(&[
        ("2024-01-10T01:30", "2024-01-10T02:15", true),
        ("2024-01-10T02:15", "2024-01-10T02:30", true),
        ("2024-01-10T02:30", "2024-01-10T03:30", false),
        ("2024-01-10T03:30", "2024-01-10T04:15", true),
    ]);
    assert_eq!(day, expected);
    // The day closed at 10:30 in Chicago, and the next one opens in the evening.
    let early = cells(ES, H1, "2013-09-02T14:00", "2013-09-02T23:00");
    let expected = rows(&[
        ("2013-09-02T14:00", "2013-09-02T15:00", true),
        ("2013-09-02T15:00", "2013-09-02T15:30", true),
        ("2013-09-02T15:30", "2013-09-02T22:00", false),
        ("2013-09-02T22:00", "2013-09-02T23:00", true),
    ]);
    assert_eq!(early, expected);
    let weekend = cells(NEW_YORK, H1, "2013-03-09T00:00", "2013-03-10T00:00");
    assert_eq!(weekend, rows(&[("2013-03-09T00:00", "2013-03-10T00:00", false)]));
}

/// What is said of `asked` where `bars` are stored and `facts` known.
fn segments(
    spec: (&str, &str, &str, &str),
    interval: Interval,
    asked: TimeRange,
    facts: &CoverageFacts,
    bars: &[Timestamp],
) -> Vec<Segment> {
    let mut bars: VecDeque<_> = bars.iter().copied().collect();
    let mut segments = Segments::new(asked, interval, facts.clone());
    for cell in Cells::new(session(spec), interval, asked.open(), asked.close()) {
        segments.take(&cell, &mut bars);
    }
    segments.finish()
}

fn said(segments: &[Segment]) -> Vec<(String, String, CoverageReason, u64)> {
    let text = |time: Timestamp| time.to_string().replace(":00Z", "");
    let row = |each: &Segment| {
        (text(each.range.open()), text(each.range.close()), each.reason, each.bar_count)
    };
    segments.iter().map(row).collect()
}

fn expect(
    rows: &[(&str, &str, CoverageReason, u64)],
) -> Vec<(String, String, CoverageReason, u64)> {
    rows.iter()
        .map(|(open, close, reason, bars)| ((*open).into(), (*close).into(), *reason, *bars))
        .collect()
}

#[test]
fn the_first_reason_that_fits_wins() {
    let asked = range("2024-01-10T00:00", "2024-01-10T10:00");
    let facts = CoverageFacts {
        asked: RangeSet::from_iter([range("2024-01-09T00:00", "2024-01-10T03:30")]),
        down: RangeSet::from_iter([range("2024-01-10T02:00", "2024-01-10T04:10")]),
        connected: RangeSet::from_iter([
            range("2024-01-09T00:00", "2024-01-10T02:00"),
            range("2024-01-10T04:10", "2024-01-10T07:59"),
        ]),
    };
    let bars = [at("2024-01-10T01:00"), at("2024-01-10T06:28:14")];
    let expected = expect(&[
        ("2024-01-10T00:00", "2024-01-10T01:00", ProviderEmpty, 0),
        ("2024-01-10T01:00", "2024-01-10T02:00", Data, 1),
        ("2024-01-10T02:00", "2024-01-10T03:00", ProviderEmpty, 0),
        // Asked for in part, and the feed was away for a part.
        ("2024-01-10T03:00", "2024-01-10T05:00", FeedDown, 0),
        ("2024-01-10T05:00", "2024-01-10T06:00", NoTrades, 0),
        // A bar off the grid occupies the cell that it opens in.
        ("2024-01-10T06:00", "2024-01-10T07:00", Data, 1),
        // The feed was not there to the end of it.
        ("2024-01-10T07:00", "2024-01-10T10:00", NotSynced, 0),
    ]);
    assert_eq!(said(&segments(CRYPTO, H1, asked, &facts, &bars)), expected);
}

#[test]
fn closed_days_are_closed_and_a_day_that_should_trade_is_not() {
    let asked = range("2012-12-31T00:00", "2013-01-04T00:00");
    let facts = CoverageFacts {
        asked: RangeSet::from_iter([range("2012-12-01T00:00", "2013-02-01T00:00")]),
        ..CoverageFacts::default()
    };
    let bars = [at("2012-12-31T14:30"), at("2013-01-02T14:30")];
    let expected = expect(&[
        ("2012-12-31T00:00", "2012-12-31T14:30", MarketClosed, 0),
        ("2012-12-31T14:30", "2013-01-01T14:30", Data, 1),
        ("2013-01-01T14:30", "2013-01-02T14:30", MarketClosed, 0),
        ("2013-01-02T14:30", "2013-01-03T14:30", Data, 1),
        ("2013-01-03T14:30", "2013-01-04T00:00", ProviderEmpty, 0),
    ]);
    assert_eq!(said(&segments(NEW_YORK, D1, asked, &facts, &bars)), expected);
    let open_new_year = ("America/New_York", "0930-1600", "", "");
    let without = segments(open_new_year, D1, asked, &facts, &bars);
    let new_year = without.iter().find(|each| each.range.open() == at("2013-01-01T14:30"));
    assert_eq!(new_year.unwrap().reason, ProviderEmpty);
}

#[test]
fn a_bar_while_the_market_is_closed_covers_its_own_length() {
    let asked = range("2013-03-08T20:30", "2013-03-09T12:00");
    let bars = [at("2013-03-09T01:05"), at("2013-03-09T01:30")];
    let expected = expect(&[
        ("2013-03-08T20:30", "2013-03-08T21:00", NotSynced, 0),
        ("2013-03-08T21:00", "2013-03-09T01:05", MarketClosed, 0),
        ("2013-03-09T01:05", "2013-03-09T02:30", Data, 2),
        ("2013-03-09T02:30", "2013-03-09T12:00", MarketClosed, 0),
    ]);
    let facts = CoverageFacts::default();
    assert_eq!(said(&segments(NEW_YORK, H1, asked, &facts, &bars)), expected);
}

#[test]
fn a_set_of_ranges_is_bounded_on_the_safe_side() {
    let minute = |index: i64| {
        let time = |at: i64| Timestamp::from_second(at).unwrap();
        BarRange::new(time(index * 60), time(index * 60 + 30)).unwrap()
    };
    let count = i64::try_from(RangeSet::MOST).unwrap() + 10;
    let all: RangeSet = (0..count).map(minute).collect();
    let mut less = all.clone();
    less.forget_oldest();
    assert_eq!((less.ranges().len(), less.ranges()[0]), (RangeSet::MOST, minute(10)));
    let mut more = all.clone();
    more.join_oldest();
    assert_eq!(more.ranges().len(), RangeSet::MOST);
    assert!(all.ranges().iter().all(|each| more.covers(*each)));
    assert_eq!(more.ranges().last(), all.ranges().last());
    assert_eq!(less.clone(), {
        less.join_oldest();
        less
    });
}

/// A second of the years 2012 and 2013.
fn any_second() -> impl Strategy<Value = i64> {
    1_325_376_000_i64..1_388_534_400
}

fn any_ranges() -> impl Strategy<Value = RangeSet> {
    let stretch = (0_i64..2_000_000, 1_i64..400_000);
    prop::collection::vec(stretch, 0..5).prop_map(|stretches| {
        let time = |second: i64| Timestamp::from_second(1_362_000_000 + second).unwrap();
        let range = |(from, length): (i64, i64)| BarRange::new(time(from), time(from + length));
        stretches.into_iter().filter_map(range).collect()
    })
}

fn any_spec() -> impl Strategy<Value = (&'static str, &'static str, &'static str, &'static str)> {
    prop::sample::select(vec![NEW_YORK, ES, CRYPTO, TOKYO, GOLDEN_WEEK, OVERLAPPING])
}

proptest! {
    /// Cells lie end to end, and hold the bars of the session.
    #[test]
    fn every_instant_lies_in_one_cell(
        second in any_second(),
        length in 1_i64..3_000_000,
        spec in prop::sample::select(vec![NEW_YORK, ES, CRYPTO, TOKYO, GOLDEN_WEEK]),
        interval in prop::sample::select(Interval::ALL.to_vec()),
    ) {
        let length = if interval < H1 { length / 20 + 1 } else { length };
        let time = |second| Timestamp::from_second(second).unwrap();
        let (start, end) = (time(second), time(second + length));
        let cells: Vec<Cell> = Cells::new(session(spec), interval, start, end).collect();
        prop_assert!(cells[0].range.contains(start));
        prop_assert!(cells[cells.len() - 1].range.close() >= end);
        prop_assert!(cells.windows(2).all(|pair| pair[0].range.close() == pair[1].range.open()));
        let session = session(spec);
        for cell in &cells {
            if let Some(bar) = cell.bar {
                prop_assert_eq!(session.bar_range(interval, bar.open()), Some(bar));
                prop_assert_eq!(cell.range.open(), bar.open());
                prop_assert!(bar.close() <= cell.range.close());
            } else {
                prop_assert_eq!(session.bar_range(interval, cell.range.open()), None);
            }
        }
    }

    /// Segments tile what was asked for, neighbours differ, every bar is counted once, and each
    /// instant has the reason that its cell has by itself.
    #[test]
    fn segments_tile_the_range_with_the_right_reasons(
        from in 0_i64..2_000_000,
        length in 1_i64..500_000,
        spec in any_spec(),
        interval in prop::sample::select(vec![M45, H1, D1, W1]),
        (asked, down, connected) in (any_ranges(), any_ranges(), any_ranges()),
        bars in prop::collection::btree_set(0_i64..2_600_000, 0..40),
        probe in 0.0..1.0_f64,
    ) {
        let time = |second: i64| Timestamp::from_second(1_362_000_000 + second).unwrap();
        let wanted = BarRange::new(time(from), time(from + length)).unwrap();
        let facts = CoverageFacts { asked, down, connected };
        let bars: BTreeSet<Timestamp> = bars.into_iter().map(time).collect();
        let list: Vec<_> = bars.iter().copied().collect();
        let said = segments(spec, interval, wanted, &facts, &list);
        prop_assert_eq!(said[0].range.open(), wanted.open());
        prop_assert_eq!(said[said.len() - 1].range.close(), wanted.close());
        for pair in said.windows(2) {
            prop_assert_eq!(pair[0].range.close(), pair[1].range.open());
            prop_assert_ne!(pair[0].reason, pair[1].reason);
        }
        for each in &said {
            let within = bars.range(each.range.open()..each.range.close()).count() as u64;
            prop_assert_eq!(each.bar_count, within, "{:?}", each);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a probe")]
        let inside = wanted.open() + ((length as f64 * probe) as i64).seconds();
        let reason = said.iter().find(|each| each.range.contains(inside)).unwrap().reason;
        let session = session(spec);
        match session.bar_range(interval, inside) {
            Some(bar) if spec != OVERLAPPING => {
                let has_bars = bars.range(bar.open()..bar.close()).next().is_some();
                let expected = if has_bars || (interval >= D1 && reason == Data) { Data }
                    else if facts.asked.covers(bar) { ProviderEmpty }
                    else if facts.down.overlaps(bar) { FeedDown }
                    else if facts.connected.covers(bar) { NoTrades }
                    else { NotSynced };
                prop_assert_eq!(reason, expected);
            }
            None if interval < D1 => prop_assert!(matches!(reason, MarketClosed | Data)),
            Some(_) | None => {}
        }
    }

    /// A set says of each instant what its parts say, and of a stretch that only one part holds.
    #[test]
    fn a_set_of_ranges_holds_what_was_put_in(
        parts in prop::collection::vec((0_i64..100, 1_i64..20), 0..12),
        from in 0_i64..100,
        length in 1_i64..30,
    ) {
        let time = |second: i64| Timestamp::from_second(second).unwrap();
        let part = |(from, length): &(i64, i64)| BarRange::new(time(*from), time(from + length)).unwrap();
        let set: RangeSet = parts.iter().map(part).collect();
        let held = |second: i64| parts.iter().any(|(from, length)| *from <= second && second < from + length);
        let range = part(&(from, length));
        prop_assert_eq!(set.covers(range), (from..from + length).all(held));
        prop_assert_eq!(set.overlaps(range), (from..from + length).any(held));
        prop_assert!(set.ranges().windows(2).all(|pair| pair[0].close() < pair[1].open()));
        let mut again = set.clone();
        prop_assert!(parts.iter().all(|each| !again.insert(part(each))));
    }
}

#[test]
fn minutes_of_a_year_are_cut_without_a_list_of_them() {
    let (start, end) = (at("2013-01-01T00:00"), at("2014-01-01T00:00"));
    let count = Cells::new(session(ES), M1, start, end).count();
    assert!((300_000..400_000).contains(&count), "{count}");
}
