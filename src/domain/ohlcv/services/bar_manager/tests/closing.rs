//! When bars close.

use super::*;
use crate::domain::shared::Interval::{H1, M1, M3, M5};

#[test]
fn a_quiet_symbols_bar_closes_on_time() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.step("2024-01-01T00:00:10", &[desk.tick("2024-01-01T00:00:10", 1.0, 1.0)]);
    assert_eq!(desk.manager.next_deadline(), Some(at("2024-01-01T00:01:02")));
    desk.step("2024-01-01T00:01:01.999", &[]);
    assert!(desk.changes.is_empty());
    desk.step("2024-01-01T00:01:02", &[]);
    assert_eq!(desk.closed().len(), 1);
    assert_eq!(desk.over(), [(M1, at("2024-01-01T00:01:00"))]);
    assert_eq!(desk.manager.next_deadline(), Some(at("2024-01-01T00:02:02")));
    desk.step("2024-01-01T00:02:02", &[]);
    assert!(desk.closed().is_empty(), "a minute without a trade has no bar");
    assert_eq!(desk.over(), [(M1, at("2024-01-01T00:02:00"))], "but its end is told");
    assert_eq!(desk.forming(M1), None);
}

#[test]
fn a_newer_tick_closes_a_bar_but_never_before_its_time() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.step("2024-01-01T00:00:10", &[desk.tick("2024-01-01T00:00:10", 1.0, 1.0)]);
    desk.step("2024-01-01T00:00:59", &[desk.tick("2024-01-01T00:01:03", 1.0, 1.0)]);
    assert!(desk.closed().is_empty());
    assert_eq!(desk.manager.next_deadline(), Some(at("2024-01-01T00:01:00")));
    desk.step("2024-01-01T00:01:00", &[]);
    assert_eq!(desk.closed().len(), 1);
}

#[test]
fn a_delayed_feed_closes_its_bars_so_much_later() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.manager.set_delay(desk.id, Duration::from_mins(15));
    desk.step("2024-01-01T00:15:10", &[desk.tick("2024-01-01T00:00:10", 1.0, 1.0)]);
    assert_eq!(desk.manager.counts().too_late, 0);
    desk.step("2024-01-01T00:16:01", &[]);
    assert!(desk.closed().is_empty());
    desk.step("2024-01-01T00:16:02", &[]);
    assert_eq!(desk.closed().len(), 1);
}

#[test]
fn a_tick_from_the_future_is_refused() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    let ticks = [
        desk.tick("2024-01-01T00:00:15.001", 1.0, 1.0),
        desk.tick("2024-01-01T00:00:15", 2.0, 1.0),
    ];
    desk.step("2024-01-01T00:00:10", &ticks);
    assert_eq!(desk.manager.counts().future, 1);
    assert_eq!(desk.forming(M1), Some(values(2.0, 2.0, 2.0, 2.0, 1.0)));
    desk.manager.move_time(at("2024-01-01T00:00:10"), desk.id, at("2030-01-01T00:00:00"));
    // Nor does a bar close without its grace from then on.
    for now in ["2024-01-01T00:00:11", "2024-01-01T00:01:01"] {
        desk.step(now, &[]);
        assert!(desk.changes.is_empty());
    }
}

#[test]
fn on_the_event_clock_only_events_close_bars() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-01T00:00:10", &[desk.tick("2013-01-01T00:00:10", 1.0, 1.0)]);
    desk.step("2030-01-01T00:00:00", &[]);
    assert!(desk.changes.is_empty());
    assert_eq!(desk.manager.next_deadline(), None);
    desk.manager.move_time(at("2024-01-01T00:00:10"), desk.id, at("2013-01-01T00:05:02"));
    desk.step("2024-01-01T00:00:10", &[]);
    let closed: Vec<_> = desk.closed().iter().map(|(interval, _)| *interval).collect();
    assert_eq!(closed, [M1, M3, M5]);
}

#[test]
fn changes_are_ordered_by_close_time_symbol_and_interval() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    let first = desk.manager.track(&Symbol::parse("A:A").unwrap(), &session(CRYPTO));
    let tick = desk.tick("2024-01-01T00:59:10", 1.0, 1.0);
    desk.step("2024-01-01T00:59:10", &[tick, QuoteTick { symbol: first, ..tick }]);
    desk.step("2024-01-01T01:01:02", &[]);
    let keys: Vec<_> = desk
        .changes
        .iter()
        .map(|change| match change {
            BarChange::Closed { series, bar } => {
                (bar.range.close(), series.symbol.code().to_owned(), series.interval, 0)
            }
            BarChange::IntervalClosed { series, close_time } => {
                (*close_time, series.symbol.code().to_owned(), series.interval, 1)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(keys.is_sorted(), "{keys:?}");
    // At 01:00 each symbol's eight intervals up to 1h but 45m, at 01:01 one minute.
    assert_eq!(desk.closed().len(), 2 * 6);
    assert_eq!(desk.over().len(), 2 * 7);
}

#[test]
fn forty_five_minutes_restart_with_each_range_of_hours() {
    let mut desk = Desk::new(FeedClock::Event, TOKYO);
    // Ranges 09:00-11:30 and 12:30-15:30 in Tokyo.
    let ticks = [
        desk.tick("2024-01-10T02:20:00", 1.0, 1.0),
        desk.tick("2024-01-10T03:31:00", 2.0, 1.0),
        desk.tick("2024-01-10T04:15:02", 3.0, 1.0),
    ];
    desk.step("2024-01-10T04:15:02", &ticks);
    let closed: Vec<_> = desk
        .closed()
        .into_iter()
        .filter(|(interval, _)| *interval == Interval::M45)
        .map(|(_, bar)| (bar.range.open(), bar.range.close()))
        .collect();
    assert_eq!(
        closed,
        [
            (at("2024-01-10T02:15:00"), at("2024-01-10T02:30:00")),
            (at("2024-01-10T03:30:00"), at("2024-01-10T04:15:00")),
        ]
    );
    assert!(!desk.over().contains(&(M1, at("2024-01-10T03:00:00"))), "at lunch nothing closes");
}

#[test]
fn a_night_closes_the_day_and_tells_nothing_more() {
    let mut desk = Desk::new(FeedClock::Wall, NEW_YORK);
    // An early close, at 13:00 New York, before Christmas.
    desk.step("2012-12-24T17:59:30", &[desk.tick("2012-12-24T17:59:30", 1.0, 1.0)]);
    desk.step("2012-12-24T18:00:02", &[]);
    let closed: Vec<_> = desk.closed().iter().map(|(interval, _)| *interval).collect();
    assert_eq!(closed, Interval::ALL[..11], "all but the week and the month");
    assert_eq!(desk.manager.next_deadline(), Some(at("2012-12-26T14:31:02")));
    desk.step("2012-12-26T14:31:02", &[]);
    assert_eq!(desk.over(), [(M1, at("2012-12-26T14:31:00"))]);
    assert_eq!(desk.forming(Interval::W1), Some(values(1.0, 1.0, 1.0, 1.0, 1.0)));
}

#[test]
fn a_jump_in_time_tells_a_day_of_empty_intervals_at_most() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-01T00:00:10", &[desk.tick("2014-01-01T00:00:10", 1.0, 1.0)]);
    desk.step("2024-01-01T00:00:10", &[desk.tick("2024-01-01T00:00:10", 2.0, 1.0)]);
    assert_eq!(desk.closed().len(), 13, "each bar of the first tick");
    let minutes = desk.over().iter().filter(|(interval, _)| *interval == M1).count();
    assert!((1_440..1_445).contains(&minutes), "{minutes}");
    assert_eq!(desk.forming(H1), Some(values(2.0, 2.0, 2.0, 2.0, 1.0)));
}

#[test]
fn a_session_that_changes_moves_the_close_of_what_is_open() {
    let mut desk = Desk::new(FeedClock::Wall, [NEW_YORK[0], NEW_YORK[1], "", ""]);
    desk.step("2012-12-24T17:59:30", &[desk.tick("2012-12-24T17:59:30", 1.0, 1.0)]);
    assert_eq!(desk.manager.track(&Symbol::parse("A:B").unwrap(), &session(NEW_YORK)), desk.id);
    desk.step("2012-12-24T18:00:02", &[]);
    let day = desk.closed().into_iter().find(|(interval, _)| *interval == Interval::D1).unwrap();
    assert_eq!(day.1.range.close(), at("2012-12-24T18:00:00"));
}
