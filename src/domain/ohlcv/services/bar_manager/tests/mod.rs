//! The manager as a service drives it.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the changes it is about")]

mod away;
mod closing;
mod joining;
mod late;
mod law;
mod repair;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{BarChange, BarManager, BarRules, FeedClock};
use crate::domain::ohlcv::{Bar, Ohlcv, StoredBar};
use crate::domain::quote::{QuoteTick, SymbolId};
use crate::domain::shared::{Interval, Symbol};
use crate::domain::symbol::{SessionSpec, TradingSession};

const NEW_YORK: [&str; 4] =
    ["America/New_York", "0930-1600", "20121225,20130101", "0930-1300:20121224"];
const ES: [&str; 4] = ["America/Chicago", "1700-1600", "", "1700-1030:20130902"];
const CRYPTO: [&str; 4] = ["Etc/UTC", "24x7", "", ""];
const MIDNIGHT: [&str; 4] = ["America/New_York", "0000-0000:1234567", "", ""];
const TOKYO: [&str; 4] = ["Asia/Tokyo", "0900-1130,1230-1530", "", ""];

fn session([timezone, session, holidays, corrections]: [&str; 4]) -> Arc<TradingSession> {
    let spec = SessionSpec {
        timezone: timezone.to_owned(),
        session: session.to_owned(),
        holidays: holidays.to_owned(),
        corrections: corrections.to_owned(),
    };
    Arc::new(TradingSession::parse(&spec).unwrap())
}

fn at(text: &str) -> Timestamp {
    format!("{text}Z").parse().unwrap()
}

fn values(open: f64, high: f64, low: f64, close: f64, volume: f64) -> Ohlcv {
    Ohlcv::new(open, high, low, close, Some(volume)).unwrap()
}

/// A manager of one symbol, and the changes of its last step.
struct Desk {
    manager: BarManager,
    id: SymbolId,
    changes: Vec<BarChange>,
}

impl Desk {
    fn new(clock: FeedClock, spec: [&str; 4]) -> Self {
        let mut manager = BarManager::new(BarRules { clock, ..BarRules::default() });
        let id = manager.track(&Symbol::parse("A:B").unwrap(), &session(spec));
        Self { manager, id, changes: Vec::new() }
    }

    fn tick(&self, time: &str, price: f64, size: f64) -> QuoteTick {
        QuoteTick { symbol: self.id, time: at(time), price, size: Some(size), cumulative: None }
    }

    fn total(&self, time: &str, price: f64, cumulative: f64) -> QuoteTick {
        let symbol = self.id;
        QuoteTick { symbol, time: at(time), price, size: None, cumulative: Some(cumulative) }
    }

    /// Takes in `ticks` at `now` and advances.
    fn step(&mut self, now: &str, ticks: &[QuoteTick]) {
        self.changes.clear();
        self.manager.ticks(at(now), ticks);
        self.manager.advance(at(now), &mut self.changes);
    }

    fn closed(&self) -> Vec<(Interval, Bar)> {
        let closed = |change: &BarChange| match change {
            BarChange::Closed { series, bar } => Some((series.interval, *bar)),
            _ => None,
        };
        self.changes.iter().filter_map(closed).collect()
    }

    fn revised(&self) -> Vec<(Interval, StoredBar, Bar)> {
        let revised = |change: &BarChange| match change {
            BarChange::Revised { series, old, bar } => Some((series.interval, *old, *bar)),
            _ => None,
        };
        self.changes.iter().filter_map(revised).collect()
    }

    fn refetched(&self) -> Vec<(Interval, Timestamp, Timestamp)> {
        let refetched = |change: &BarChange| match change {
            BarChange::Refetch { series, range } => {
                Some((series.interval, range.open(), range.close()))
            }
            _ => None,
        };
        self.changes.iter().filter_map(refetched).collect()
    }

    fn over(&self) -> Vec<(Interval, Timestamp)> {
        let over = |change: &BarChange| match change {
            BarChange::IntervalClosed { series, close_time } => {
                Some((series.interval, *close_time))
            }
            _ => None,
        };
        self.changes.iter().filter_map(over).collect()
    }

    fn forming(&self, interval: Interval) -> Option<Ohlcv> {
        self.manager.forming(self.id, interval).map(|bar| bar.stored.values)
    }
}

#[test]
fn a_symbol_that_was_let_go_takes_no_ticks() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let tick = desk.tick("2024-01-01T00:00:10", 1.0, 1.0);
    let old = desk.id;
    assert!(desk.manager.untrack(old).is_some());
    desk.id = desk.manager.track(&Symbol::parse("A:C").unwrap(), &session(CRYPTO));
    assert_ne!(old, desk.id, "a number is not used twice");
    desk.step("2024-01-01T00:00:10", &[tick]);
    assert_eq!((desk.manager.counts().untracked, desk.forming(Interval::M1)), (1, None));
    assert_eq!(desk.manager.untrack(old), None);
}

#[test]
fn ticks_that_are_no_trades_are_counted() {
    let mut desk = Desk::new(FeedClock::Event, NEW_YORK);
    let good = desk.tick("2013-01-02T15:00:00", 1.0, 1.0);
    desk.step(
        "2013-01-02T15:00:00",
        &[
            QuoteTick { price: f64::NAN, ..good },
            QuoteTick { size: Some(-1.0), ..good },
            QuoteTick { cumulative: Some(f64::INFINITY), ..good },
            desk.tick("2013-01-02T14:29:59", 1.0, 1.0),
            good,
        ],
    );
    let counts = desk.manager.counts();
    assert_eq!((counts.received, counts.invalid, counts.off_session), (5, 3, 1));
    assert_eq!(desk.forming(Interval::Mo1), Some(values(1.0, 1.0, 1.0, 1.0, 1.0)));
}

#[test]
fn equal_ticks_are_separate_trades() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let tick = desk.tick("2024-01-01T00:00:10", 5.0, 2.0);
    desk.step("2024-01-01T00:00:10", &[tick; 3]);
    let bar = desk.manager.forming(desk.id, Interval::H1).unwrap();
    assert_eq!((bar.stored.values.volume(), bar.stored.tick_count), (Some(6.0), Some(3)));
}

#[test]
fn what_has_no_volume_gets_none() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let tick = QuoteTick { size: None, ..desk.tick("2024-01-01T00:00:10", 5.0, 2.0) };
    desk.step("2024-01-01T00:01:10", &[tick]);
    assert_eq!(desk.forming(Interval::D1).unwrap().volume(), None);
}

#[test]
fn unclosed_bars_are_flushed_as_forming() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let ticks =
        [desk.tick("2024-01-01T00:00:10", 5.0, 2.0), desk.tick("2024-01-01T00:01:01", 6.0, 1.0)];
    desk.step("2024-01-01T00:01:01", &ticks);
    assert!(desk.closed().is_empty(), "within the grace");
    let bars = desk.manager.flush();
    assert_eq!(bars.len(), 14, "two minutes and twelve longer bars");
    assert!(bars.iter().all(|(_, _, bar)| bar.stored.revision() == 0));
}

#[test]
fn a_snapshot_is_taken_of_what_changed() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-01T00:00:10", &[desk.tick("2024-01-01T00:00:10", 5.0, 2.0)]);
    assert_eq!(desk.manager.take_snapshot().len(), 1);
    assert_eq!(desk.manager.take_snapshot().len(), 0);
    desk.step("2024-01-01T00:00:11", &[desk.tick("2024-01-01T00:00:11", 5.0, 2.0)]);
    assert_eq!(desk.manager.take_snapshot()[0].minutes[0].ticks, 2);
}

#[test]
fn memory_holds_only_what_a_late_tick_can_reach() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let start = at("2024-01-01T00:00:00");
    for minute in 0..2_000 {
        let time = start + Duration::from_secs(minute * 60);
        let tick = QuoteTick { time, ..desk.tick("2024-01-01T00:00:00", 1.0, 1.0) };
        desk.manager.ticks(time, &[tick]);
        desk.manager.advance(time, &mut desk.changes);
        desk.changes.clear();
    }
    let kept = desk.manager.snapshot(desk.id).unwrap();
    assert!(kept.minutes.len() <= 5, "{}", kept.minutes.len());
    assert!(kept.parents.len() <= 12 + 12, "{}", kept.parents.len());
}
