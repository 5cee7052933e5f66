//! Random operations: each engine answers as a plain map would, and so both answer alike.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use jiff::Timestamp;
use pocketquant::domain::ohlcv::{BarSource, Ohlcv, StoredBar};
use pocketquant::domain::shared::{Interval, Series};
use pocketquant::domain::sync::SyncDiff;
use pocketquant::infrastructure::persistence::{BarOrder, BarQuery, Database, SeriesSummary};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Handle;

use super::{Store, on_both_engines, series, time};

/// Open times are few, so that operations meet.
const TIMES: i64 = 6;

on_both_engines!(random_operations_are_answered_as_a_map_would);

#[derive(Clone, Debug)]
enum Operation {
    Write { inserted: Vec<StoredBar>, updated: Vec<StoredBar> },
    Delete(Vec<Timestamp>),
    Find(BarQuery),
    Stretch(Timestamp, Timestamp),
    Export { start: Option<Timestamp>, end: Option<Timestamp>, chunk: u32 },
    Summary,
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..TIMES).prop_map(time)
}

fn any_bar() -> impl Strategy<Value = StoredBar> {
    let volume = proptest::option::of((0..3_u8).prop_map(f64::from));
    (
        any_time(),
        0..4_u32,
        -2..3_i8,
        volume,
        0..3_usize,
        any::<bool>(),
        proptest::option::of(0..9_u32),
    )
        .prop_map(|(open, number, price, volume, source, unknown, tick_count)| {
            let price = f64::from(price);
            let values = Ohlcv::new(price, price, price, price, volume).unwrap();
            let source = BarSource::ALL[source];
            let mut bar = StoredBar::with_revision(open, values, number, source);
            bar.tick_count = tick_count;
            bar.finality_unknown = unknown && number == 1;
            bar
        })
}

fn any_query() -> impl Strategy<Value = BarQuery> {
    let end = || proptest::option::of(any_time());
    (end(), end(), any::<bool>(), 0..5_u32, any::<bool>()).prop_map(
        |(start, end, newest, limit, include_forming)| {
            let order = if newest { BarOrder::NewestFirst } else { BarOrder::OldestFirst };
            BarQuery { start, end, order, limit, include_forming }
        },
    )
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let bars = || proptest::collection::vec(any_bar(), 0..4);
    let end = || proptest::option::of(any_time());
    prop_oneof![
        4 => (bars(), bars())
            .prop_map(|(inserted, updated)| Operation::Write { inserted, updated }),
        1 => proptest::collection::vec(any_time(), 0..3).prop_map(Operation::Delete),
        2 => any_query().prop_map(Operation::Find),
        1 => (any_time(), any_time()).prop_map(|(from, to)| Operation::Stretch(from, to)),
        1 => (end(), end(), 1..4_u32)
            .prop_map(|(start, end, chunk)| Operation::Export { start, end, chunk }),
        1 => Just(Operation::Summary),
    ]
}

/// A series as a map.
#[derive(Default)]
struct Model(BTreeMap<Timestamp, StoredBar>);

impl Model {
    fn write(&mut self, bars: impl Iterator<Item = StoredBar>) {
        for bar in bars {
            let stored = self.0.entry(bar.open_time).or_insert(bar);
            if bar.replaces(stored) {
                *stored = bar;
            }
        }
    }

    fn find(&self, query: &BarQuery) -> Vec<StoredBar> {
        let mut found: Vec<_> = self
            .0
            .values()
            .filter(|bar| query.start.is_none_or(|start| bar.open_time >= start))
            .filter(|bar| query.end.is_none_or(|end| bar.open_time < end))
            .filter(|bar| query.include_forming || bar.is_final())
            .copied()
            .collect();
        if query.order == BarOrder::NewestFirst {
            found.reverse();
        }
        found.truncate(usize::try_from(query.limit).unwrap());
        found
    }

    fn summary(&self) -> SeriesSummary {
        let finals: Vec<_> = self.0.values().filter(|bar| bar.is_final()).collect();
        SeriesSummary {
            bar_count: finals.len().try_into().unwrap(),
            first_bar_at: finals.first().map(|bar| bar.open_time),
            last_bar_at: finals.last().map(|bar| bar.open_time),
            has_any: !self.0.is_empty(),
        }
    }
}

async fn random_operations_are_answered_as_a_map_would(store: &Store) {
    let (database, runtime) = (store.database.clone(), Handle::current());
    let test = move || {
        let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
        let mut case = 0;
        let mut next_series = move || {
            case += 1;
            series(&format!("CASE:{case}"), Interval::M1)
        };
        let next_series = std::cell::RefCell::new(&mut next_series);
        TestRunner::new(config)
            .run(&proptest::collection::vec(any_operation(), 1..25), |operations| {
                let series = (*next_series.borrow_mut())();
                runtime.block_on(agrees(&database, &series, operations))
            })
            .unwrap();
    };
    tokio::task::spawn_blocking(test).await.unwrap();
}

async fn agrees(
    database: &Database,
    series: &Series,
    operations: Vec<Operation>,
) -> Result<(), TestCaseError> {
    let (bars, mut model) = (database.bars(), Model::default());
    for operation in operations {
        match operation {
            Operation::Write { inserted, updated } => {
                model.write(inserted.iter().chain(&updated).copied());
                let diff = SyncDiff { inserted, updated, ..SyncDiff::default() };
                bars.write(series, &diff, time(0)).await.unwrap();
            }
            Operation::Delete(times) => {
                let gone = times.iter().filter(|time| model.0.remove(time).is_some()).count();
                let deleted = bars.delete(series, &times).await.unwrap();
                prop_assert_eq!(deleted, u64::try_from(gone).unwrap());
            }
            Operation::Find(query) => {
                prop_assert_eq!(bars.find(series, &query).await.unwrap(), model.find(&query));
            }
            Operation::Stretch(from, to) => {
                let in_it = |bar: &&StoredBar| (from..=to).contains(&bar.open_time);
                let expected: Vec<_> = model.0.values().filter(in_it).copied().collect();
                prop_assert_eq!(bars.stretch(series, from, to).await.unwrap(), expected);
            }
            Operation::Export { start, end, chunk } => {
                let order = BarOrder::OldestFirst;
                let query = BarQuery { start, end, order, limit: 99, include_forming: false };
                let expected = model.find(&query);
                let exported = bars.export(series, start, end, chunk);
                let chunks: Vec<_> = exported.map(Result::unwrap).collect().await;
                let times = chunks.iter().flat_map(|chunk| &chunk.open_time_ms).copied();
                let closes = chunks.iter().flat_map(|chunk| &chunk.close).copied();
                let states = chunks.iter().flat_map(|chunk| &chunk.state).copied();
                prop_assert!(times.eq(expected.iter().map(|bar| bar.open_time.as_millisecond())));
                prop_assert!(closes.eq(expected.iter().map(|bar| bar.values.close())));
                prop_assert!(states.eq(expected.iter().map(StoredBar::state)));
            }
            Operation::Summary => {
                prop_assert_eq!(bars.summary(series).await.unwrap(), model.summary());
            }
        }
    }
    let stored = bars.stretch(series, time(0), time(TIMES)).await.unwrap();
    prop_assert_eq!(stored, model.0.into_values().collect::<Vec<_>>());
    Ok(())
}
