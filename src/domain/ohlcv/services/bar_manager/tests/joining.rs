//! Joins, seeds, outages, restarts.

use super::*;
use crate::domain::ohlcv::services::{JoinPoint, Seed};
use crate::domain::ohlcv::{BarSource, StoredBar};
use crate::domain::shared::Interval::{D1, H1, M1, M3, M5, Mo1, W1};

/// A Wednesday, not the first of its month; 100 traded so far, the last at 10:30:20.
fn joined(clock: FeedClock) -> Desk {
    let mut desk = Desk::new(clock, CRYPTO);
    let point = JoinPoint {
        time: Some(at("2024-01-10T10:30:20")),
        volume: Some(100.0),
        seed_follows: true,
        before_first_trade: false,
    };
    desk.manager.join(at("2024-01-10T10:30:25"), desk.id, &point);
    desk
}

const MINUTES: [(&str, f64); 5] = [
    ("2024-01-10T00:05:00", 50.0),
    ("2024-01-10T10:00:00", 20.0),
    ("2024-01-10T10:29:00", 15.0),
    ("2024-01-10T10:30:00", 15.0),
    ("2024-01-10T10:31:00", 7.0),
];

fn seed(desk: &mut Desk) {
    let bar = |(time, volume): (&str, f64)| (at(time), values(5.0, 9.0, 4.0, 6.0, volume));
    let days = ["2024-01-01", "2024-01-08", "2024-01-09", "2024-01-10"]
        .map(|day| (at(&format!("{day}T00:00:00")), values(3.0, 30.0, 2.0, 4.0, 1_000.0)));
    desk.manager.seed(desk.id, &Seed { minutes: &MINUTES.map(bar), days: &days });
}

#[test]
fn a_seed_makes_the_first_bars_complete() {
    let mut desk = joined(FeedClock::Wall);
    desk.step("2024-01-10T10:30:25", &[desk.total("2024-01-10T10:30:25", 8.0, 103.0)]);
    seed(&mut desk);
    desk.step("2024-01-10T10:30:26", &[desk.total("2024-01-10T10:30:26", 7.0, 104.0)]);
    assert_eq!(desk.forming(M1), Some(values(5.0, 9.0, 4.0, 7.0, 4.0)), "open, high and low");
    assert_eq!(desk.forming(H1), Some(values(5.0, 9.0, 4.0, 7.0, 39.0)));
    assert_eq!(desk.forming(D1), Some(values(5.0, 9.0, 4.0, 7.0, 89.0)));
    assert_eq!(desk.forming(W1), Some(values(3.0, 30.0, 2.0, 7.0, 2_089.0)));
    assert_eq!(desk.forming(Mo1), Some(values(3.0, 30.0, 2.0, 7.0, 3_089.0)));
    desk.step("2024-01-10T10:31:02", &[]);
    let (interval, bar) = desk.closed()[0];
    assert_eq!((interval, bar.stored.source), (M1, BarSource::Ticks), "whatever seeded it");
    assert_eq!(desk.refetched(), [(M1, at("2024-01-10T10:30:00"), at("2024-01-10T10:31:00"))]);
}

#[test]
fn a_seed_alone_shows_what_is_forming_and_stores_nothing() {
    let mut desk = joined(FeedClock::Wall);
    seed(&mut desk);
    assert_eq!(desk.forming(D1), Some(values(5.0, 9.0, 4.0, 6.0, 100.0)));
    desk.step("2024-01-10T10:31:02", &[]);
    assert!(desk.closed().is_empty(), "the feed built no minute");
    assert_eq!(desk.refetched().len(), 1, "it is fetched");
    desk.step("2024-01-10T10:35:02", &[]);
    let closed: Vec<_> = desk.closed().iter().map(|(interval, _)| *interval).collect();
    assert_eq!(closed, [M3, M5]);
}

#[test]
fn the_seed_may_come_late() {
    let mut desk = joined(FeedClock::Wall);
    for minute in 31..40 {
        let time = format!("2024-01-10T10:{minute}:10");
        desk.step(&time, &[desk.total(&time, 8.0, f64::from(minute) + 70.0)]);
    }
    seed(&mut desk);
    assert_eq!(desk.forming(H1), Some(values(5.0, 9.0, 4.0, 8.0, 20.0 + 15.0 + 15.0 + 9.0)));
}

#[test]
fn only_the_provider_knows_whether_a_late_trade_was_the_first_of_a_seeded_minute() {
    let mut desk = joined(FeedClock::Wall);
    seed(&mut desk);
    desk.step("2024-01-10T10:30:26", &[desk.tick("2024-01-10T10:30:26", 7.0, 1.0)]);
    desk.step("2024-01-10T10:31:02", &[]);
    assert_eq!(desk.closed().len(), 1);
    let minute = (M1, at("2024-01-10T10:30:00"), at("2024-01-10T10:31:00"));
    for (time, expected) in [("2024-01-10T10:30:00", vec![minute]), ("2024-01-10T10:30:26", vec![])]
    {
        desk.step("2024-01-10T10:31:03", &[desk.tick(time, 8.0, 1.0)]);
        assert_eq!((desk.revised()[0].0, desk.refetched()), (M1, expected));
    }
}

#[test]
fn every_bar_that_was_forming_at_the_join_is_fetched_after_its_close() {
    let mut desk = joined(FeedClock::Event);
    let mut refetched = Vec::new();
    let minutes = (0..60 * 24 * 23).map(|minute| Duration::from_secs(60 * minute + 2));
    for passed in minutes {
        let time = at("2024-01-10T10:30:00") + passed;
        desk.manager.move_time(time, desk.id, time);
        desk.step("2024-01-10T10:30:00", &[]);
        refetched.extend(desk.refetched());
    }
    refetched.sort();
    let found: Vec<_> = refetched.iter().map(|(interval, _, _)| *interval).collect();
    assert_eq!(found, Interval::ALL);
    assert!(refetched.iter().all(|(_, from, to)| {
        *from <= at("2024-01-10T10:30:20") && at("2024-01-10T10:30:20") < *to
    }));
}

#[test]
fn a_day_joined_before_its_first_trade_is_complete() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    let point = JoinPoint { before_first_trade: true, seed_follows: true, ..JoinPoint::default() };
    desk.manager.join(at("2030-01-01T00:00:00"), desk.id, &point);
    desk.step("2030-01-01T00:00:00", &[desk.total("2024-01-10T00:00:05", 8.0, 5.0)]);
    seed(&mut desk);
    assert_eq!(desk.forming(D1), Some(values(8.0, 8.0, 8.0, 8.0, 5.0)));
    assert_eq!(desk.forming(W1), Some(values(3.0, 30.0, 2.0, 8.0, 2_005.0)));
    seed(&mut desk);
    assert_eq!(desk.forming(W1), Some(values(3.0, 30.0, 2.0, 8.0, 2_005.0)), "once");
    desk.step("2030-01-01T00:00:00", &[desk.total("2024-01-11T00:00:05", 8.0, 5.0)]);
    assert!(desk.refetched().is_empty());
    desk.step("2030-01-01T00:00:00", &[desk.total("2024-01-16T00:00:05", 8.0, 5.0)]);
    assert_eq!(desk.refetched().iter().map(|(interval, _, _)| *interval).collect::<Vec<_>>(), [W1]);
}

#[test]
fn days_that_were_over_when_the_seed_came_are_not_counted_twice() {
    let before = JoinPoint { before_first_trade: true, seed_follows: true, ..JoinPoint::default() };
    let first = at("2024-01-08T00:00:05");
    let traded = JoinPoint { time: Some(first), volume: Some(5.0), ..before };
    let traded = JoinPoint { before_first_trade: false, ..traded };
    // What was joined after its first trade is the provider's for the whole day.
    let whole = values(3.0, 30.0, 2.0, 8.0, 1_015.0);
    for (point, week, month) in
        [(before, values(8.0, 8.0, 8.0, 8.0, 20.0), 1_020.0), (traded, whole, 2_015.0)]
    {
        let mut desk = Desk::new(FeedClock::Event, CRYPTO);
        desk.manager.join(first, desk.id, &point);
        desk.step("2024-01-08T00:00:05", &[desk.tick("2024-01-08T00:00:06", 8.0, 5.0)]);
        desk.step("2024-01-10T00:00:05", &[desk.tick("2024-01-10T00:00:05", 8.0, 5.0)]);
        seed(&mut desk);
        let passing = ["2024-01-10T00:01:05", "2024-01-10T00:05:05"];
        for time in passing {
            desk.step(time, &[desk.tick(time, 8.0, 5.0)]);
        }
        assert_eq!(desk.forming(W1), Some(week), "{point:?}");
        assert_eq!(desk.forming(Mo1), Some(values(3.0, 30.0, 2.0, 8.0, month)), "{point:?}");
    }
}

#[test]
fn without_a_baseline_the_first_volume_is_one() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    let ticks = [
        desk.total("2024-01-10T10:30:05", 8.0, 500.0),
        desk.total("2024-01-10T10:30:06", 8.0, 503.0),
    ];
    desk.step("2024-01-10T10:30:06", &ticks);
    assert_eq!(desk.forming(H1).unwrap().volume(), Some(3.0));
    desk.step("2024-01-10T10:31:02", &[]);
    assert_eq!(desk.refetched().len(), 1);
}

#[test]
fn after_a_resubscription_the_snapshot_is_the_baseline() {
    // Within the minute of the last tick the volume goes on; else it starts anew.
    for (time, volume) in [("2024-01-10T10:30:50", 24.0), ("2024-01-10T10:31:00", 3.0 + 4.0)] {
        let mut desk = joined(FeedClock::Event);
        desk.step(time, &[desk.total("2024-01-10T10:30:30", 8.0, 103.0)]);
        let point = JoinPoint { time: Some(at(time)), volume: Some(120.0), ..JoinPoint::default() };
        desk.manager.join(at(time), desk.id, &point);
        desk.step(time, &[desk.total("2024-01-10T10:31:01", 8.0, 124.0)]);
        assert_eq!(desk.forming(D1).unwrap().volume(), Some(volume), "{time}");
        assert_eq!(
            desk.forming(M1).unwrap().volume(),
            Some(4.0),
            "the minute before missed the rest"
        );
    }
}

#[test]
fn bars_that_overlap_an_outage_are_fetched_again() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.step("2024-01-10T10:58:10", &[desk.tick("2024-01-10T10:58:10", 8.0, 1.0)]);
    desk.step("2024-01-10T11:01:30", &[]);
    desk.manager.outage(
        desk.id,
        at("2024-01-10T10:58:20"),
        at("2024-01-10T11:01:30"),
        &mut desk.changes,
    );
    let closed: Vec<_> =
        desk.refetched().into_iter().filter(|(i, _, _)| [M1, H1, D1].contains(i)).collect();
    assert_eq!(
        closed,
        [
            (H1, at("2024-01-10T10:00:00"), at("2024-01-10T11:00:00")),
            (M1, at("2024-01-10T10:56:00"), at("2024-01-10T11:01:00")),
        ]
    );
    desk.step("2024-01-10T11:02:02", &[]);
    assert_eq!(desk.refetched(), [(M1, at("2024-01-10T11:01:00"), at("2024-01-10T11:02:00"))]);
    desk.step("2024-01-10T11:03:02", &[]);
    let after: Vec<_> = desk.refetched().iter().map(|(interval, _, _)| *interval).collect();
    assert_eq!(after, [M3], "the next minute was not cut");
}

#[test]
fn a_restart_is_an_outage() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-10T00:00:00", &[desk.tick("2024-01-10T10:30:10", 8.0, 1.0)]);
    let kept = desk.manager.take_snapshot().remove(0);
    desk.manager = BarManager::new(desk.manager.rules());
    desk.id = desk.manager.restore(&kept, &session(CRYPTO), &[]);
    let point = JoinPoint {
        time: Some(at("2024-01-10T12:40:20")),
        volume: Some(9.0),
        ..JoinPoint::default()
    };
    desk.manager.join(at("2024-01-10T12:40:20"), desk.id, &point);
    desk.step("2024-01-10T12:40:20", &[]);
    let closed: Vec<_> = desk.closed().iter().map(|(interval, _)| *interval).collect();
    assert_eq!(closed.iter().collect::<std::collections::BTreeSet<_>>().len(), 10);
    assert!(desk.over().len() <= 10, "no empty intervals are told of a time nobody saw");
    for (interval, from, to) in [
        (M1, "2024-01-10T10:30:00", "2024-01-10T10:31:00"),
        (M1, "2024-01-10T10:31:00", "2024-01-10T12:40:00"),
        (H1, "2024-01-10T10:00:00", "2024-01-10T12:00:00"),
    ] {
        assert!(desk.refetched().contains(&(interval, at(from), at(to))), "{:?}", desk.refetched());
    }
}

#[test]
fn a_bar_that_is_closed_in_the_database_is_not_closed_again() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-10T00:00:00", &[desk.tick("2024-01-10T10:30:10", 8.0, 1.0)]);
    let kept = desk.manager.take_snapshot().remove(0);
    let stored = StoredBar::closed(
        at("2024-01-10T10:30:00"),
        values(8.0, 9.0, 8.0, 9.0, 4.0),
        BarSource::Ticks,
    );
    desk.manager = BarManager::new(desk.manager.rules());
    desk.id = desk.manager.restore(&kept, &session(CRYPTO), &[(M1, stored)]);
    desk.manager.move_time(at("2024-01-10T10:31:02"), desk.id, at("2024-01-10T10:31:02"));
    desk.step("2024-01-10T10:31:02", &[]);
    assert!(desk.closed().is_empty() && desk.revised().is_empty());
    assert_eq!(desk.forming(H1), Some(values(8.0, 9.0, 8.0, 9.0, 4.0)));
    desk.step("2024-01-10T10:31:02", &[desk.tick("2024-01-10T10:30:50", 10.0, 1.0)]);
    assert_eq!(desk.revised()[0].2.stored.values, values(8.0, 10.0, 8.0, 9.0, 5.0));
}

#[test]
fn what_the_provider_corrected_stays_so_over_a_restart() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-10T00:00:00", &[desk.tick("2024-01-10T10:30:10", 8.0, 1.0)]);
    let kept = desk.manager.take_snapshot().remove(0);
    let said = values(8.0, 9.0, 8.0, 9.0, 4.0);
    let stored = StoredBar::with_revision(at("2024-01-10T10:30:00"), said, 2, BarSource::Repair);
    desk.manager = BarManager::new(desk.manager.rules());
    desk.id = desk.manager.restore(&kept, &session(CRYPTO), &[(M1, stored)]);
    desk.manager.move_time(at("2024-01-10T10:31:02"), desk.id, at("2024-01-10T10:31:02"));
    desk.step("2024-01-10T10:31:02", &[desk.tick("2024-01-10T10:30:50", 10.0, 1.0)]);
    assert!(desk.revised().is_empty(), "{:?}", desk.revised());
    assert_eq!(desk.manager.counts().outranked, 1);
}

#[test]
fn a_trade_from_before_the_join_is_the_seeds() {
    let mut desk = joined(FeedClock::Event);
    let before = desk.forming(H1);
    desk.step("2024-01-10T10:30:20", &[desk.tick("2024-01-10T10:29:50", 99.0, 1.0)]);
    assert_eq!((desk.manager.counts().too_late, desk.refetched()), (1, Vec::new()));
    assert_eq!(desk.forming(H1), before);
}

#[test]
fn a_seed_after_a_restart_fills_what_was_missed() {
    let mut desk = joined(FeedClock::Wall);
    seed(&mut desk);
    desk.step("2024-01-10T10:30:26", &[desk.total("2024-01-10T10:30:26", 7.0, 104.0)]);
    let kept = desk.manager.take_snapshot().remove(0);
    desk.manager = BarManager::new(desk.manager.rules());
    desk.id = desk.manager.restore(&kept, &session(CRYPTO), &[]);
    let point = JoinPoint {
        time: Some(at("2024-01-10T10:32:10")),
        volume: Some(130.0),
        seed_follows: true,
        before_first_trade: false,
    };
    desk.manager.join(at("2024-01-10T10:32:11"), desk.id, &point);
    seed(&mut desk);
    desk.step("2024-01-10T10:32:12", &[desk.total("2024-01-10T10:32:12", 8.0, 131.0)]);
    // All five minutes of the seed lie before the join now: 107, and 1 since.
    assert_eq!(desk.forming(D1), Some(values(5.0, 9.0, 4.0, 8.0, 108.0)));
    let closed = desk.closed();
    assert_eq!((closed.len(), closed[0].1.stored.values), (1, values(5.0, 9.0, 4.0, 7.0, 19.0)));
}

#[test]
fn on_the_clock_nothing_closes_between_a_restart_and_the_join() {
    let mut desk = Desk::new(FeedClock::Wall, CRYPTO);
    desk.step("2024-01-10T10:30:10", &[desk.tick("2024-01-10T10:30:10", 8.0, 1.0)]);
    let kept = desk.manager.take_snapshot().remove(0);
    desk.manager = BarManager::new(desk.manager.rules());
    desk.id = desk.manager.restore(&kept, &session(CRYPTO), &[]);
    desk.step("2024-01-10T10:40:00", &[]);
    assert!(desk.changes.is_empty(), "what was missed is not known yet: {:?}", desk.changes);
    assert_eq!(desk.manager.next_deadline(), None);
    desk.manager.join(at("2024-01-10T10:40:10"), desk.id, &JoinPoint::default());
    desk.step("2024-01-10T10:40:10", &[]);
    assert!(desk.closed().iter().any(|(interval, _)| *interval == M1));
    let minute = (M1, at("2024-01-10T10:30:00"), at("2024-01-10T10:31:00"));
    assert!(desk.refetched().contains(&minute), "{:?}", desk.refetched());
    assert!(desk.manager.next_deadline().is_some());
}

#[test]
fn what_was_owed_at_a_crash_is_asked_for_again() {
    let mut desk = Desk::new(FeedClock::Event, CRYPTO);
    desk.step("2024-01-10T10:32:05", &[desk.tick("2024-01-10T10:32:05", 8.0, 1.0)]);
    let range = |from, to| crate::domain::ohlcv::BarRange::new(at(from), at(to)).unwrap();
    let closed = range("2024-01-10T10:00:00", "2024-01-10T10:30:00");
    let forming = range("2024-01-10T10:32:00", "2024-01-10T10:33:00");
    desk.changes.clear();
    desk.manager.owe(desk.id, M1, closed, &mut desk.changes);
    desk.manager.owe(desk.id, M1, forming, &mut desk.changes);
    assert_eq!(desk.refetched(), [(M1, closed.open(), closed.close())]);
    desk.step("2024-01-10T10:34:05", &[desk.tick("2024-01-10T10:34:05", 8.0, 1.0)]);
    assert!(desk.refetched().contains(&(M1, forming.open(), forming.close())));
}
