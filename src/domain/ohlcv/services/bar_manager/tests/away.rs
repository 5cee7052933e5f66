//! Trades that were missed, and when nobody would have noticed.

use super::*;
use crate::domain::ohlcv::services::{JoinPoint, RepairedBar};
use crate::domain::shared::Interval::{M1, M5, W1};

fn traded(time: &str) -> JoinPoint {
    JoinPoint { time: Some(at(time)), volume: Some(100.0), ..JoinPoint::default() }
}

/// The process ends, and another one joins at `now`.
fn restart(desk: &mut Desk, now: &str, point: &JoinPoint) {
    let kept = desk.manager.snapshot(desk.id).unwrap();
    desk.manager = BarManager::new(desk.manager.rules());
    desk.id = desk.manager.restore(&kept, &session(CRYPTO), &[]);
    desk.manager.join(at(now), desk.id, point);
    desk.step(now, &[]);
}

/// Whether the minute that opens at `time` is fetched again.
fn fetches(desk: &Desk, time: &str) -> bool {
    desk.refetched().iter().any(|(of, from, to)| *of == M1 && (*from..*to).contains(&at(time)))
}

/// Nothing was traded for minutes when the feed joined: bars of before are not its own.
#[test]
fn a_late_trade_of_before_the_join_makes_no_bar() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.manager.join(at("2024-01-10T10:41:03"), desk.id, &traded("2024-01-10T10:35:30"));
    let late = ["2024-01-10T10:39:50", "2024-01-10T10:41:04"].map(|time| desk.tick(time, 9.0, 1.0));
    desk.step("2024-01-10T10:41:05", &late);
    assert_eq!(desk.closed(), []);
    assert_eq!(desk.forming(M5).unwrap().volume(), Some(1.0));
}

#[test]
fn the_time_of_the_last_trade_is_not_of_the_day_that_begins() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let point =
        JoinPoint { volume: Some(0.0), before_first_trade: true, ..traded("2024-01-08T23:00:00") };
    desk.manager.join(at("2024-01-09T00:00:01"), desk.id, &point);
    for time in ["2024-01-09T00:00:05", "2024-01-15T00:00:05"] {
        desk.step(time, &[desk.tick(time, 8.0, 1.0)]);
    }
    assert!(desk.refetched().iter().any(|(of, _, _)| *of == W1), "its Monday was not seen");
}

#[test]
fn a_restart_before_the_first_trade_is_an_outage() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    let before = JoinPoint { before_first_trade: true, ..JoinPoint::default() };
    desk.manager.join(at("2024-01-10T00:00:30"), desk.id, &before);
    desk.step("2024-01-10T00:00:30", &[]);
    restart(&mut desk, "2024-01-10T00:05:10", &traded("2024-01-10T00:03:20"));
    assert!(fetches(&desk, "2024-01-10T00:03:00"), "{:?}", desk.refetched());
}

#[test]
fn what_closed_while_the_feed_was_away_is_fetched_after_a_restart() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.step("2024-01-10T10:30:20", &[desk.tick("2024-01-10T10:30:20", 8.0, 1.0)]);
    desk.manager.cut(desk.id, at("2024-01-10T10:30:38"));
    desk.step("2024-01-10T10:58:40", &[]);
    assert_eq!(desk.closed()[0].0, M1, "on time, with what is known");
    restart(&mut desk, "2024-01-10T11:27:00", &traded("2024-01-10T11:26:00"));
    assert!(fetches(&desk, "2024-01-10T10:30:00"), "{:?}", desk.refetched());
    assert!(fetches(&desk, "2024-01-10T10:57:00"), "{:?}", desk.refetched());
}

/// Its last trades may have been on their way.
#[test]
fn a_minute_that_has_just_closed_is_fetched_after_a_restart() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.step("2024-01-10T10:30:20", &[desk.tick("2024-01-10T10:30:20", 8.0, 1.0)]);
    desk.step("2024-01-10T10:31:02", &[]);
    restart(&mut desk, "2024-01-10T10:31:05", &traded("2024-01-10T10:30:59"));
    assert!(fetches(&desk, "2024-01-10T10:30:00"), "{:?}", desk.refetched());
}

#[test]
fn a_late_trade_in_a_repaired_minute_has_it_fetched_once_more() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    for time in ["2024-01-10T10:00:05", "2024-01-10T10:01:05"] {
        desk.step(time, &[desk.tick(time, 1.0, 1.0)]);
    }
    let repaired = RepairedBar {
        open_time: at("2024-01-10T10:00:00"),
        values: values(1.0, 2.0, 1.0, 1.0, 3.0),
        stored: None,
    };
    desk.manager.apply_repair(desk.id, M1, &[repaired], &mut desk.changes);
    desk.step("2024-01-10T10:01:06", &[desk.tick("2024-01-10T10:00:50", 9.0, 1.0)]);
    assert!(fetches(&desk, "2024-01-10T10:00:00"), "{:?}", desk.refetched());
}
