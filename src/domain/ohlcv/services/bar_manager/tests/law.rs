//! The roll-up law at every point, over crashes too.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::roll_up;

const SPECS: [[&str; 4]; 5] = [NEW_YORK, ES, CRYPTO, MIDNIGHT, TOKYO];

/// Close to both clock changes, the holidays and the early closes of the sessions above.
const STARTS: [&str; 7] = [
    "2012-12-24T14:30:00",
    "2013-01-31T23:58:00",
    "2013-03-08T20:55:00",
    "2013-03-10T06:50:00",
    "2013-09-02T15:20:00",
    "2013-11-03T05:30:00",
    "2013-11-29T17:00:00",
];

/// Seconds since the tick before (late where negative), price, size, and whether a batch ends.
type Move = (i64, i16, u8, bool);

fn any_move() -> impl Strategy<Value = Move> {
    let step = prop_oneof![
        10 => 0_i64..40,
        2 => -110_i64..0,
        2 => 40_i64..4_000,
        1 => 4_000_i64..300_000,
    ];
    (step, any::<i16>(), any::<u8>(), any::<bool>())
}

/// The ticks of `moves` within `session`; late ones are at most 110 s older than the newest.
fn ticks(session: &TradingSession, start: Timestamp, moves: &[Move]) -> Vec<(QuoteTick, bool)> {
    let mut newest = start;
    let id = SymbolId { index: 0, generation: 0 };
    let mut ticks = Vec::new();
    for (step, price, size, ends) in moves {
        let time = newest + jiff::SignedDuration::from_secs(*step);
        let inside = session.hours_at(time).is_some();
        let time = if inside { time } else { session.next_hours(time).unwrap().open() };
        // A late one that was moved to the next session would not be late.
        if !inside && *step < 0 {
            continue;
        }
        newest = newest.max(time);
        let size = Some(f64::from(*size));
        let price = f64::from(*price) / 4.0;
        ticks.push((QuoteTick { symbol: id, time, price, size, cumulative: None }, *ends));
    }
    ticks
}

/// The one-minute bars of all ticks, by hand.
fn minutes(session: &TradingSession, ticks: &[QuoteTick]) -> Vec<(Timestamp, Ohlcv)> {
    let mut by_minute: BTreeMap<BarRange, Vec<QuoteTick>> = BTreeMap::new();
    for tick in ticks {
        let range = session.bar_range(Interval::M1, tick.time).unwrap();
        by_minute.entry(range).or_default().push(*tick);
    }
    let bar = |(range, mut ticks): (BarRange, Vec<QuoteTick>)| {
        ticks.sort_by_key(|tick| tick.time);
        let price = |tick: &QuoteTick| tick.price;
        let high = ticks.iter().map(price).fold(f64::MIN, f64::max);
        let low = ticks.iter().map(price).fold(f64::MAX, f64::min);
        let volume = ticks.iter().filter_map(|tick| tick.size).sum();
        let (open, close) = (ticks[0].price, ticks[ticks.len() - 1].price);
        (range.open(), values(open, high, low, close, volume))
    };
    by_minute.into_iter().map(bar).collect()
}

/// What was told of each bar, checked as it comes.
#[derive(Default)]
struct Told(BTreeMap<(Interval, Timestamp), StoredBar>);

impl Told {
    fn take(&mut self, changes: &[BarChange]) {
        for change in changes {
            match change {
                BarChange::Closed { series, bar } => {
                    let key = (series.interval, bar.range.open());
                    assert_eq!(bar.stored.revision(), 1);
                    assert_eq!(self.0.insert(key, bar.stored), None, "closed twice");
                }
                BarChange::Revised { series, old, bar } => {
                    let key = (series.interval, bar.range.open());
                    assert_eq!(bar.stored.revision(), old.revision() + 1);
                    assert_eq!(self.0.insert(key, bar.stored), Some(*old));
                }
                BarChange::IntervalClosed { .. } | BarChange::FormingChanged { .. } => {}
                BarChange::Refetch { .. } | BarChange::Reroll { .. } => {
                    panic!("nothing was missed: {change:?}")
                }
            }
        }
    }
}

/// Every bar, closed or forming, is what its minutes come to.
fn assert_law(
    desk: &Desk,
    told: &Told,
    session: &Arc<TradingSession>,
    ticks: &[QuoteTick],
    at_end: bool,
) {
    let minutes = minutes(session, ticks);
    for interval in Interval::ALL {
        let expected: BTreeMap<_, _> = roll_up(minutes.iter().copied(), session, interval)
            .iter()
            .map(|bar| (bar.range.open(), bar.values))
            .collect();
        let last = expected.last_key_value().map(|(open, values)| (*open, *values));
        let forming = desk.manager.forming(desk.id, interval);
        if let Some(bar) = forming {
            assert_eq!(Some((bar.range.open(), bar.stored.values)), last, "{interval}");
        }
        if !at_end {
            continue;
        }
        let mut found: BTreeMap<_, _> = desk
            .manager
            .flush()
            .into_iter()
            .filter(|(_, of, _)| *of == interval)
            .map(|(_, _, bar)| (bar.range.open(), bar.stored.values))
            .collect();
        for ((_, open), bar) in told.0.iter().filter(|((of, _), _)| *of == interval) {
            assert_eq!(found.insert(*open, bar.values), None, "{interval} closed and forming");
        }
        assert_eq!(found, expected, "{interval}");
    }
}

/// Runs `moves`, with a crash after each of `crashes`.
fn run(spec: [&str; 4], start: &str, moves: &[Move], crashes: &[usize]) -> Vec<BarChange> {
    let session = session(spec);
    let mut desk = Desk::new(FeedClock::Event, spec);
    let (mut told, mut all, mut seen, mut batch) =
        (Told::default(), Vec::new(), Vec::new(), Vec::new());
    let ticks = ticks(&session, at(start), moves);
    for (index, (tick, ends)) in ticks.iter().enumerate() {
        seen.push(*tick);
        batch.push(*tick);
        if *ends || crashes.contains(&index) {
            desk.step(start, &std::mem::take(&mut batch));
            desk.changes.retain(|change| !is_of_an_earlier_day(change));
            told.take(&desk.changes);
            all.append(&mut desk.changes);
            assert_law(&desk, &told, &session, &seen, index % 16 == 0);
        }
        if crashes.contains(&index) {
            let kept = desk.manager.take_snapshot();
            assert_eq!(kept, [desk.manager.snapshot(desk.id).unwrap()]);
            desk.manager = BarManager::new(desk.manager.rules());
            desk.id = desk.manager.restore(&kept[0], &session, &[]);
            assert_eq!(desk.id, tick.symbol);
        }
    }
    desk.step(start, &batch);
    desk.changes.retain(|change| !is_of_an_earlier_day(change));
    told.take(&desk.changes);
    all.append(&mut desk.changes);
    assert_law(&desk, &told, &session, &seen, true);
    assert_eq!(desk.manager.counts().too_late, 0);
    all.retain(|change| !matches!(change, BarChange::FormingChanged { .. }));
    all
}

/// The week and the month in which tracking began are fetched again.
fn is_of_an_earlier_day(change: &BarChange) -> bool {
    matches!(change, BarChange::Refetch { series, .. }
        if matches!(series.interval, Interval::W1 | Interval::Mo1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn at_every_point_each_bar_is_what_its_minutes_come_to(
        spec in prop::sample::select(SPECS.to_vec()),
        start in prop::sample::select(STARTS.to_vec()),
        moves in prop::collection::vec(any_move(), 1..150),
    ) {
        run(spec, start, &moves, &[]);
    }

    /// A batch ends at each crash in the undisturbed run too: it is what is told once.
    #[test]
    fn a_crash_at_any_tick_changes_nothing(
        spec in prop::sample::select(SPECS.to_vec()),
        start in prop::sample::select(STARTS.to_vec()),
        mut moves in prop::collection::vec(any_move(), 1..150),
        crashes in prop::collection::vec(0_usize..150, 1..4),
    ) {
        for (_, _, _, ends) in &mut moves {
            *ends = true;
        }
        prop_assert_eq!(run(spec, start, &moves, &crashes), run(spec, start, &moves, &[]));
    }
}
