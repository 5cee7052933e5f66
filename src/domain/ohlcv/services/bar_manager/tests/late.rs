//! Ticks that come late.

use super::*;
use crate::domain::shared::Interval::{H1, M1, M3, M5};

/// A minute that closed with 5 traded at 10, at 00:01:02.
fn desk() -> Desk {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-01T00:00:00", &[desk.tick("2024-01-01T00:00:30", 10.0, 5.0)]);
    desk.step("2024-01-01T00:00:00", &[desk.tick("2024-01-01T00:01:02", 11.0, 1.0)]);
    assert_eq!(desk.closed().len(), 1);
    desk
}

#[test]
fn a_late_tick_revises_the_bar_and_its_parents_once() {
    let mut desk = desk();
    desk.step("2024-01-01T00:00:00", &[desk.tick("2024-01-01T00:03:02", 12.0, 1.0)]);
    assert_eq!(desk.closed().iter().map(|(interval, _)| *interval).collect::<Vec<_>>(), [M1, M3]);
    // Two ticks of one batch, late for the bar and for its parent of three minutes.
    let ticks =
        [desk.tick("2024-01-01T00:01:30", 20.0, 2.0), desk.tick("2024-01-01T00:01:31", 9.0, 2.0)];
    desk.step("2024-01-01T00:00:00", &ticks);
    let revised = desk.revised();
    let found: Vec<_> =
        revised.iter().map(|(interval, old, bar)| (*interval, *old, bar.stored)).collect();
    assert_eq!(found.len(), 2);
    for ((interval, old, new), (expected, before, after)) in found.into_iter().zip([
        (M1, values(11.0, 11.0, 11.0, 11.0, 1.0), values(11.0, 20.0, 9.0, 9.0, 5.0)),
        (M3, values(10.0, 11.0, 10.0, 11.0, 6.0), values(10.0, 20.0, 9.0, 9.0, 10.0)),
    ]) {
        assert_eq!((interval, old.values, new.values), (expected, before, after));
        assert_eq!((old.revision(), new.revision()), (1, 2));
    }
    assert_eq!(desk.forming(M5), Some(values(10.0, 20.0, 9.0, 12.0, 11.0)));
    assert_eq!(desk.manager.counts().late, 2);
    desk.step("2024-01-01T00:00:00", &[]);
    assert!(desk.changes.is_empty());
}

#[test]
fn a_late_tick_is_placed_by_its_time() {
    let mut desk = desk();
    let ticks =
        [desk.tick("2024-01-01T00:00:20", 8.0, 1.0), desk.tick("2024-01-01T00:00:25", 30.0, 1.0)];
    desk.step("2024-01-01T00:00:00", &ticks);
    assert_eq!(desk.revised()[0].2.stored.values, values(8.0, 30.0, 8.0, 10.0, 7.0));
}

#[test]
fn within_the_grace_a_late_tick_is_no_revision() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let ticks = [
        desk.tick("2024-01-01T00:00:30", 10.0, 5.0),
        desk.tick("2024-01-01T00:01:01", 11.0, 1.0),
        desk.tick("2024-01-01T00:00:59", 12.0, 1.0),
    ];
    desk.step("2024-01-01T00:00:00", &ticks);
    desk.step("2024-01-01T00:00:00", &[desk.tick("2024-01-01T00:01:02", 11.0, 1.0)]);
    assert!(desk.revised().is_empty());
    assert_eq!(desk.closed()[0].1.stored.values, values(10.0, 12.0, 10.0, 12.0, 6.0));
}

#[test]
fn a_late_tick_can_make_a_bar_where_there_was_none() {
    let mut desk = desk();
    desk.step("2024-01-01T00:00:00", &[desk.tick("2024-01-01T00:03:02", 12.0, 1.0)]);
    desk.step("2024-01-01T00:00:00", &[desk.tick("2024-01-01T00:02:10", 13.0, 1.0)]);
    let closed = desk.closed();
    assert_eq!((closed.len(), closed[0].1.stored.revision()), (1, 1));
    assert_eq!(desk.revised().iter().map(|(interval, _, _)| *interval).collect::<Vec<_>>(), [M3]);
    assert!(desk.over().is_empty(), "its end was told before");
}

#[test]
fn a_tick_that_is_too_late_asks_for_a_repair() {
    let mut desk = desk();
    desk.step("2024-01-01T00:00:00", &[desk.tick("2024-01-01T00:02:31", 12.0, 1.0)]);
    let hour = desk.forming(H1);
    let ticks = [desk.tick("2024-01-01T00:00:30", 99.0, 1.0); 2];
    desk.step("2024-01-01T00:00:00", &ticks);
    assert_eq!(desk.manager.counts().too_late, 2);
    assert_eq!(
        desk.refetched(),
        [(M1, at("2024-01-01T00:00:00"), at("2024-01-01T00:01:00"))],
        "once"
    );
    assert_eq!((desk.forming(H1), desk.revised().len()), (hour, 0));
}

#[test]
fn a_repeated_total_adds_no_volume() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.manager.join(at("2024-01-01T00:00:00"), desk.id, &fresh());
    let first = desk.total("2024-01-01T00:00:30", 10.0, 5.0);
    let second = desk.total("2024-01-01T00:00:31", 11.0, 7.0);
    desk.step("2024-01-01T00:00:00", &[first, second, first, second]);
    assert_eq!(desk.forming(M1).unwrap().volume(), Some(7.0));
    assert!(desk.refetched().is_empty());
}

#[test]
fn a_lowered_total_adds_nothing_and_asks_for_a_repair() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.manager.join(at("2024-01-01T00:00:00"), desk.id, &fresh());
    let ticks = [
        desk.total("2024-01-01T00:00:30", 10.0, 50.0),
        desk.total("2024-01-01T00:00:31", 10.0, 40.0),
        desk.total("2024-01-01T00:00:32", 10.0, 43.0),
    ];
    desk.step("2024-01-01T00:00:00", &ticks);
    assert_eq!(desk.forming(M1).unwrap().volume(), Some(53.0));
    desk.step("2024-01-01T00:00:00", &[desk.total("2024-01-01T00:01:02", 10.0, 44.0)]);
    assert_eq!(desk.refetched(), [(M1, at("2024-01-01T00:00:00"), at("2024-01-01T00:01:00"))]);
}

#[test]
fn a_bars_volume_is_one_subtraction() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let point = super::super::JoinPoint {
        time: Some(at("2024-01-01T00:00:00")),
        volume: Some(0.1),
        ..Default::default()
    };
    desk.manager.join(at("2024-01-01T00:00:00"), desk.id, &point);
    for step in 1..=1_000 {
        let total = 0.1 + f64::from(step) * 0.1;
        desk.step("2024-01-01T00:00:00", &[desk.total("2024-01-01T00:00:30", 1.0, total)]);
    }
    assert_eq!(desk.forming(M1).unwrap().volume(), Some((0.1 + 1_000.0 * 0.1) - 0.1));
}

fn fresh() -> super::super::JoinPoint {
    super::super::JoinPoint { before_first_trade: true, ..Default::default() }
}
