//! Bars that the provider was asked for again.

use super::*;
use crate::domain::ohlcv::services::{JoinPoint, RepairedBar};
use crate::domain::ohlcv::{BarRange, BarSource};
use crate::domain::shared::Interval::{D1, H1, M1, M3, M5, Mo1, W1};

/// One trade a minute from 10:00:05 on, at the minute's number, until `last`.
fn desk(last: u32) -> Desk {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    for minute in 0..=last {
        let time = format!("2024-01-10T{}:{:02}:05", 10 + minute / 60, minute % 60);
        desk.step(&time, &[desk.tick(&time, f64::from(minute), 1.0)]);
    }
    desk
}

fn repaired(time: &str, values: Ohlcv, stored: Option<StoredBar>) -> RepairedBar {
    RepairedBar { open_time: at(time), values, stored }
}

/// Applies a repair and advances.
fn apply(desk: &mut Desk, interval: Interval, bar: RepairedBar) {
    desk.changes.clear();
    desk.manager.apply_repair(desk.id, interval, &[bar], &mut desk.changes);
    desk.manager.advance(at("2024-01-10T00:00:00"), &mut desk.changes);
}

fn rerolled(desk: &Desk) -> Vec<(Interval, Timestamp, Timestamp)> {
    let rerolled = |change: &BarChange| match change {
        BarChange::Reroll { series, range, until } => Some((series.interval, range.open(), *until)),
        _ => None,
    };
    desk.changes.iter().filter_map(rerolled).collect()
}

/// The bar that a roll-up of `interval` is asked for, and how far.
fn asked_of(desk: &Desk, interval: Interval) -> (BarRange, Timestamp) {
    let asked = |change: &BarChange| match change {
        BarChange::Reroll { series, range, until } if series.interval == interval => {
            Some((*range, *until))
        }
        _ => None,
    };
    desk.changes.iter().find_map(asked).unwrap()
}

/// Answers a roll-up that was asked for.
fn answer(desk: &mut Desk, of: Interval, head: (BarRange, Timestamp), values: Ohlcv) -> bool {
    desk.changes.clear();
    desk.manager.replace_head(desk.id, of, head, values, &mut desk.changes)
}

#[test]
fn a_repaired_bar_is_revised_with_its_parents() {
    let mut desk = desk(3);
    apply(&mut desk, M1, repaired("2024-01-10T10:02:00", values(2.0, 50.0, 2.0, 3.0, 9.0), None));
    let found: Vec<_> = desk.revised().iter().map(|(i, _, bar)| (*i, bar.stored)).collect();
    assert_eq!(found.iter().map(|(interval, _)| *interval).collect::<Vec<_>>(), [M1, M3]);
    for (_, bar) in &found {
        assert_eq!((bar.source, bar.revision()), (BarSource::Repair, 2));
    }
    assert_eq!(found[1].1.values, values(0.0, 50.0, 0.0, 3.0, 11.0));
    let forming = desk.manager.forming(desk.id, M5).unwrap().stored;
    assert_eq!(forming.values, values(0.0, 50.0, 0.0, 3.0, 12.0));
    assert_eq!(forming.source, BarSource::Repair);
    assert!(rerolled(&desk).is_empty());
}

#[test]
fn late_ticks_never_change_a_repaired_bar() {
    let mut desk = desk(3);
    apply(&mut desk, M1, repaired("2024-01-10T10:02:00", values(2.0, 50.0, 2.0, 3.0, 9.0), None));
    let ticks =
        [desk.tick("2024-01-10T10:02:30", 99.0, 1.0), desk.tick("2024-01-10T10:01:30", 98.0, 1.0)];
    desk.step("2024-01-10T10:03:05", &ticks);
    assert_eq!(desk.manager.counts().outranked, 1);
    let revised: Vec<_> = desk.revised().iter().map(|(i, _, bar)| (*i, bar.range.open())).collect();
    assert_eq!(revised, [(M1, at("2024-01-10T10:01:00"))], "nor the repaired parent");
}

#[test]
fn what_the_provider_confirms_stays_as_it_is() {
    let mut desk = desk(3);
    let same = values(2.0, 2.0, 2.0, 2.0, 1.0 + 5e-10);
    apply(&mut desk, M1, repaired("2024-01-10T10:02:00", same, None));
    let silent = Ohlcv::new(1.0, 1.0, 1.0, 1.0, None).unwrap();
    apply(&mut desk, M1, repaired("2024-01-10T10:01:00", silent, None));
    apply(&mut desk, M1, repaired("2024-01-10T10:03:00", values(9.0, 9.0, 9.0, 9.0, 1.0), None));
    assert!(desk.revised().is_empty(), "equal, silent about volume, or not closed");
    apply(&mut desk, M1, repaired("2024-01-10T10:02:00", values(2.0, 2.0, 2.0, 2.0, 1.1), None));
    assert_eq!(desk.revised().len(), 2);
}

#[test]
fn a_missing_minute_is_filled_in() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let ticks =
        [desk.tick("2024-01-10T10:00:05", 1.0, 1.0), desk.tick("2024-01-10T10:02:05", 3.0, 1.0)];
    desk.step("2024-01-10T10:02:05", &ticks);
    apply(&mut desk, M1, repaired("2024-01-10T10:01:00", values(2.0, 8.0, 2.0, 2.0, 1.0), None));
    let (interval, bar) = desk.closed()[0];
    assert_eq!((interval, bar.stored.source, bar.stored.revision()), (M1, BarSource::Repair, 1));
    assert_eq!(desk.forming(M3), Some(values(1.0, 8.0, 1.0, 3.0, 3.0)));
}

/// As after a restart: what another run has closed is stored, and not in memory.
#[test]
fn a_bar_whose_minutes_are_not_all_in_memory_is_never_made_of_those_that_are() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    for time in ["2024-01-10T10:00:05", "2024-01-10T10:06:05"] {
        desk.step(time, &[desk.tick(time, 1.0, 1.0)]);
    }
    let same = values(2.0, 2.0, 2.0, 2.0, 1.0);
    let stored = StoredBar::closed(at("2024-01-10T10:04:00"), same, BarSource::Ticks);
    desk.changes.clear();
    let bars = [
        repaired("2024-01-10T10:04:00", same, Some(stored)),
        repaired("2024-01-10T10:05:00", values(3.0, 3.0, 3.0, 3.0, 1.0), None),
    ];
    desk.manager.apply_repair(desk.id, M1, &bars, &mut desk.changes);
    desk.manager.advance(at("2024-01-10T00:00:00"), &mut desk.changes);
    let told: Vec<_> = desk.closed().iter().map(|(interval, bar)| (*interval, bar.range)).collect();
    assert_eq!(told.len(), 1, "of the minutes only the missing one, and no bar above: {told:?}");
    let (three, until) = asked_of(&desk, M3);
    assert_eq!((three.open(), until), (at("2024-01-10T10:03:00"), three.close()));
    // The bar that is in memory takes it in.
    let revised: Vec<_> =
        desk.revised().iter().map(|(i, _, bar)| (*i, bar.stored.values)).collect();
    assert_eq!(revised, [(M5, values(1.0, 2.0, 1.0, 2.0, 2.0))]);
}

/// A bar that began before the join cannot be rolled up from the database.
#[test]
fn what_a_minute_changes_stays_in_memory_until_it_is_fetched_again() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let point = JoinPoint {
        time: Some(at("2024-01-10T10:30:20")),
        volume: Some(100.0),
        ..JoinPoint::default()
    };
    desk.manager.join(at("2024-01-10T10:30:20"), desk.id, &point);
    for minute in ["30:50", "31:05", "40:05", "50:05"] {
        let time = format!("2024-01-10T10:{minute}");
        desk.step(&time, &[desk.tick(&time, 1.0, 1.0)]);
    }
    // The join's minute comes late, with what was traded before the join.
    apply(&mut desk, M1, repaired("2024-01-10T10:30:00", values(1.0, 7.0, 1.0, 1.0, 5.0), None));
    assert_eq!(desk.forming(H1), Some(values(1.0, 7.0, 1.0, 1.0, 8.0)));
    let minute = BarRange::new(at("2024-01-10T10:30:00"), at("2024-01-10T10:31:00")).unwrap();
    desk.manager.refetched(desk.id, minute);
    desk.step("2024-01-10T10:51:05", &[desk.tick("2024-01-10T10:51:05", 1.0, 1.0)]);
    let again = repaired("2024-01-10T10:30:00", values(1.0, 9.0, 1.0, 1.0, 5.0), None);
    apply(&mut desk, M1, again);
    assert_eq!(desk.forming(H1), Some(values(1.0, 7.0, 1.0, 1.0, 9.0)), "it is fetched as a whole");
}

#[test]
fn a_late_trade_in_a_minute_that_passed_unseen_is_left_to_the_provider() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    for time in ["2024-01-10T10:00:05", "2024-01-10T10:06:05"] {
        desk.step(time, &[desk.tick(time, 1.0, 1.0)]);
    }
    let away = (at("2024-01-10T10:00:05"), at("2024-01-10T10:06:05"));
    desk.manager.outage(desk.id, away.0, away.1, &mut desk.changes);
    desk.step("2024-01-10T10:06:10", &[desk.tick("2024-01-10T10:05:30", 9.0, 1.0)]);
    assert!(desk.closed().is_empty() && desk.revised().is_empty());
    let minute = at("2024-01-10T10:05:00");
    assert!(desk.refetched().iter().any(|(interval, open, _)| (*interval, *open) == (M1, minute)));
}

#[test]
fn a_repair_out_of_memory_asks_for_a_new_roll_up() {
    let mut desk = desk(70);
    let stored = StoredBar::closed(
        at("2024-01-10T10:02:00"),
        values(2.0, 2.0, 2.0, 2.0, 1.0),
        BarSource::Ticks,
    );
    let bar = repaired("2024-01-10T10:02:00", values(2.0, 500.0, 2.0, 3.0, 9.0), Some(stored));
    apply(&mut desk, M1, bar);
    assert_eq!(desk.revised().len(), 1);
    let asked = rerolled(&desk);
    assert_eq!(asked.len(), 10, "the first days of the week and the month are not stored");
    assert!(asked.contains(&(H1, at("2024-01-10T10:00:00"), at("2024-01-10T11:00:00"))));
    let (day, until) = asked_of(&desk, D1);
    assert!(until < at("2024-01-10T11:10:00"), "the newest minutes are in memory");
    let minutes = u32::try_from((until - at("2024-01-10T10:00:00")).get_seconds() / 60).unwrap();
    let head = values(0.0, 500.0, 0.0, f64::from(minutes - 1), f64::from(minutes) + 8.0);
    // Time goes on until the answer.
    desk.step("2024-01-10T11:20:05", &[desk.tick("2024-01-10T11:20:05", 80.0, 1.0)]);
    assert!(answer(&mut desk, D1, (day, until), head));
    assert!(!answer(&mut desk, D1, (day, until), head), "once");
    let day = desk.manager.forming(desk.id, D1).unwrap().stored;
    assert_eq!(day.values, values(0.0, 500.0, 0.0, 80.0, 72.0 + 8.0));
    assert_eq!(day.source, BarSource::Repair);
}

/// The question was asked of a forming bar; the answer finds it closed and out of memory.
#[test]
fn a_roll_up_that_is_answered_too_late_is_asked_for_again_as_a_whole() {
    let mut desk = desk(70);
    let high = values(2.0, 500.0, 2.0, 3.0, 9.0);
    apply(&mut desk, M1, repaired("2024-01-10T11:02:00", high, None));
    let (hour, until) = asked_of(&desk, H1);
    assert!(until < hour.close(), "it is forming");
    desk.step("2024-01-10T12:30:05", &[desk.tick("2024-01-10T12:30:05", 80.0, 1.0)]);
    assert!(!answer(&mut desk, H1, (hour, until), high));
    assert_eq!(asked_of(&desk, H1), (hour, hour.close()));
}

#[test]
fn a_parent_is_taken_as_the_provider_says_it() {
    let mut desk = desk(61);
    apply(&mut desk, H1, repaired("2024-01-10T10:00:00", values(0.0, 60.0, 0.0, 59.0, 60.0), None));
    let revised = desk.revised();
    assert_eq!(revised.len(), 1);
    assert_eq!((revised[0].0, revised[0].2.stored.source), (H1, BarSource::Repair));
    desk.step("2024-01-10T11:01:05", &[desk.tick("2024-01-10T10:59:50", 99.0, 1.0)]);
    assert!(desk.revised().iter().all(|(interval, _, _)| *interval != H1));
}

#[test]
fn a_repaired_day_asks_for_its_week_and_month() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    for time in ["2024-01-01T00:00:05", "2024-01-10T10:03:05", "2024-01-10T10:05:05"] {
        desk.step(time, &[desk.tick(time, 1.0, 1.0)]);
    }
    let stored = StoredBar::closed(
        at("2024-01-09T00:00:00"),
        values(1.0, 2.0, 1.0, 2.0, 5.0),
        BarSource::Ticks,
    );
    let bar = repaired("2024-01-09T00:00:00", values(1.0, 3.0, 1.0, 2.0, 5.0), Some(stored));
    apply(&mut desk, D1, bar);
    let asked: Vec<_> = rerolled(&desk).iter().map(|(interval, _, _)| *interval).collect();
    assert_eq!((desk.revised().len(), asked), (1, vec![W1, Mo1]));
    assert_eq!(rerolled(&desk)[0].2, at("2024-01-10T00:00:00"));
}

/// Its children of before the join are not stored, so nothing but the provider knows it.
#[test]
fn a_bar_that_began_before_the_join_is_fetched_and_not_rolled_up() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let point = JoinPoint {
        time: Some(at("2024-01-10T10:30:20")),
        volume: Some(100.0),
        ..JoinPoint::default()
    };
    desk.manager.join(at("2024-01-10T10:30:20"), desk.id, &point);
    for time in ["2024-01-10T10:31:05", "2024-01-10T11:31:05"] {
        desk.step(time, &[desk.tick(time, 1.0, 1.0)]);
        // What was asked for is there, so that memory lets go of it.
        let minute = BarRange::new(at("2024-01-10T10:30:00"), at("2024-01-10T10:31:00")).unwrap();
        desk.manager.refetched(desk.id, minute);
    }
    let stored =
        |time| Some(StoredBar::closed(at(time), values(1.0, 1.0, 1.0, 1.0, 1.0), BarSource::Ticks));
    let bar = repaired(
        "2024-01-10T10:31:00",
        values(1.0, 3.0, 1.0, 1.0, 1.0),
        stored("2024-01-10T10:31:00"),
    );
    apply(&mut desk, M1, bar);
    let asked: Vec<_> = rerolled(&desk).iter().map(|(interval, _, _)| *interval).collect();
    assert!(asked.iter().all(|interval| ![H1, D1, W1, Mo1].contains(interval)), "{asked:?}");
    let hour = (H1, at("2024-01-10T10:00:00"), at("2024-01-10T11:00:00"));
    assert!(desk.refetched().contains(&hour), "{:?}", desk.refetched());
}
