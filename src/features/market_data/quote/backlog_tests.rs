//! The order of jobs between memory and disk, and their bounds.

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::*;
use crate::domain::ohlcv::BarSource;
use crate::domain::shared::Symbol;
use crate::features::market_data::quote::job::Decided;
use crate::features::market_data::quote::ring::LiveChange;
use crate::features::market_data::quote::snapshot_codec;
use crate::features::market_data::quote::test_bench::{self, Bench, at, bar};
use crate::infrastructure::persistence::{
    Cache, CacheConfig, Database, DatabaseConfig, SeriesCache,
};

/// The smallest that the settings allow.
const SMALL: u64 = 64 << 10;

async fn spool(folder: &TempDir, bytes: u64) -> Spool {
    Spool::open(folder.path(), bytes, TaskTracker::new()).await.unwrap()
}

fn job(number: i64) -> Job {
    let at = |second| Timestamp::from_second(second).unwrap();
    let symbol = Symbol::parse("CME:ES").unwrap();
    let gap = LiveChange::Gap(symbol, at(number), at(number + 1));
    Job::Decided(vec![Decided::Live(gap)])
}

fn names(jobs: &[Job]) -> Vec<String> {
    jobs.iter().map(|job| format!("{job:?}")).collect()
}

fn named(numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("{:?}", job(number))).collect()
}

#[tokio::test]
async fn what_could_not_be_written_comes_first_again_and_nothing_overtakes() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = Backlog::new(Some(spool(&folder, 1 << 20).await));
    backlog.push([job(1), job(2)]);
    let Batch { jobs, through } = backlog.next().await.unwrap();
    assert!(!backlog.is_safe() && !backlog.is_empty(), "it may still fail");
    backlog.push([job(3)]);
    // What is being written may still come back: what is behind it waits.
    backlog.spill(true).await;
    assert!(!backlog.is_spooled());
    backlog.not_written(jobs, through);
    backlog.spill(true).await;
    assert!(backlog.is_safe() && backlog.is_spooled());
    backlog.push([job(4)]);
    backlog.spill(false).await;
    assert!(backlog.is_safe(), "memory is behind the disk, and goes there");

    let Batch { jobs, through } = backlog.next().await.unwrap();
    assert_eq!(names(&jobs), named(1..=4));
    backlog.push([job(5)]);
    backlog.spill(false).await;
    backlog.written(through).await;
    let Batch { jobs, through } = backlog.next().await.unwrap();
    assert_eq!(names(&jobs), named([5]));
    backlog.written(through).await;
    assert!(backlog.next().await.is_none() && backlog.is_empty());

    // From here on it is as if nothing had been.
    backlog.push([job(6)]);
    backlog.spill(false).await;
    let Batch { jobs, through } = backlog.next().await.unwrap();
    assert_eq!((names(&jobs), through), (named([6]), None));
}

#[tokio::test]
async fn a_stop_waits_until_its_bars_are_on_disk_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = Backlog::new(Some(spool(&folder, 1 << 20).await));
    let (safe, mut told) = oneshot::channel();
    backlog.push([job(1), Job::Barrier(safe)]);
    assert!(told.try_recv().is_err());
    backlog.spill(true).await;
    assert_eq!(told.try_recv().unwrap(), Safe::Spooled);
    let Batch { jobs, .. } = backlog.next().await.unwrap();
    assert_eq!(names(&jobs), named([1]));
}

#[tokio::test]
async fn a_full_spool_leaves_the_rest_in_memory_and_then_there_is_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = Backlog::new(Some(spool(&folder, SMALL).await));
    let mut pushed = 0;
    while backlog.has_room() {
        assert!(pushed < 100_000, "it is not bounded");
        backlog.push([job(pushed)]);
        backlog.spill(true).await;
        pushed += 1;
    }
    assert!(backlog.is_spooled() && !backlog.is_safe());
    // Nothing is missing, and the order is kept.
    let mut written = Vec::new();
    while let Some(Batch { jobs, through }) = backlog.next().await {
        written.extend(names(&jobs));
        backlog.written(through).await;
    }
    assert_eq!(written, named(0..pushed));
    assert!(backlog.has_room() && backlog.is_empty());
}

#[tokio::test]
async fn without_a_spool_there_is_room_again_once_half_of_memory_is_free() {
    let mut backlog = Backlog::new(None);
    backlog.push((0..1_023).map(job));
    assert!(backlog.has_room());
    backlog.push([job(1_023)]);
    let mut written = 0;
    while !backlog.has_room() {
        let Batch { jobs, through } = backlog.next().await.unwrap();
        written += jobs.len();
        backlog.written(through).await;
        backlog.spill(true).await;
    }
    assert!((512..1_024).contains(&written), "{written}");
}

#[tokio::test]
async fn what_waits_for_a_slow_database_goes_to_disk_before_there_is_much_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = Backlog::new(Some(spool(&folder, 1 << 20).await));
    backlog.push((0..256).map(job));
    backlog.spill(false).await;
    assert!(!backlog.is_spooled());
    backlog.push([job(256)]);
    backlog.spill(false).await;
    assert!(backlog.is_spooled() && backlog.is_safe());
}

#[tokio::test]
async fn a_spool_that_refused_is_left_alone_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool(&folder, SMALL).await;
    let mut backlog = Backlog::new(Some(spool.clone()));
    let mut number = 0;
    while backlog.refused_at.is_none() {
        backlog.push([job(number)]);
        backlog.spill(true).await;
        number += 1;
    }
    let last = spool.oldest(u32::MAX, usize::MAX).await.unwrap().last().unwrap().0;
    spool.remove_through(last).await.unwrap();
    backlog.spill(true).await;
    assert!(!backlog.is_safe(), "it is not asked with each job");
    tokio::time::pause();
    tokio::time::advance(RETRY_AFTER).await;
    tokio::time::resume();
    backlog.spill(true).await;
    assert!(backlog.is_safe());
}

/// A spool on a disk that takes no removals, as one does that is full.
async fn without_removals(folder: &TempDir) -> Spool {
    drop(spool(folder, 1 << 20).await);
    let file = rusqlite::Connection::open(folder.path().join(SPOOL_FILE)).unwrap();
    let refuse = "CREATE TRIGGER full BEFORE DELETE ON entries \
                  BEGIN SELECT RAISE(ABORT, 'no room'); END";
    file.execute_batch(refuse).unwrap();
    drop(file);
    spool(folder, 1 << 20).await
}

#[tokio::test]
async fn what_is_written_is_not_written_again_where_the_disk_cannot_remove_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = Backlog::new(Some(without_removals(&folder).await));
    backlog.push((0..200).map(job));
    backlog.spill(true).await;
    assert!(backlog.is_spooled() && backlog.is_safe());
    let mut written = Vec::new();
    while let Some(Batch { jobs, through }) = backlog.next().await {
        assert!(written.len() < 400, "it does not end");
        written.extend(names(&jobs));
        backlog.written(through).await;
        if written.len() < 200 {
            assert!(backlog.lingers, "the disk took it, and nothing is tested");
            let next = 199 + i64::try_from(written.len() / 64).unwrap();
            backlog.push([job(next)]);
        }
    }
    assert_eq!(written, named(0..203));
    assert!(backlog.is_empty());
    drop(backlog);
    assert_eq!(spool(&folder, 1 << 20).await.count().await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_slow_disk_may_have_taken_comes_before_what_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let disk = spool(&folder, 1 << 20).await;
    let mut backlog = Backlog::new(Some(disk.clone()));
    backlog.push([job(1)]);
    backlog.refused(&SpoolError::TooSlow);
    disk.append(spool_codec::encode(&[job(1)])).await.unwrap();
    backlog.push([job(2)]);
    let Batch { jobs, through } = backlog.next().await.unwrap();
    assert!(through.is_some(), "what is on disk is forgotten");
    assert_eq!(names(&jobs), named([1]));
    backlog.written(through).await;
    let Batch { jobs, through } = backlog.next().await.unwrap();
    assert_eq!((names(&jobs), through), (named([1, 2]), None));
    backlog.written(through).await;
    assert!(backlog.next().await.is_none() && backlog.is_empty());
}

#[tokio::test]
async fn all_that_an_earlier_run_left_is_stored_where_the_disk_cannot_remove_it() {
    let bench = Bench::start().await;
    let left = without_removals(&bench.folder).await;
    let bar = |hour: i64| {
        let mut bar = bar(1.0, 1, BarSource::Ticks);
        bar.stored.open_time = at(hour * 3_600);
        Job::Decided(vec![Decided::Bar { series: test_bench::hour(), bar, old: None }])
    };
    let jobs: Vec<Job> = (0..150).map(bar).collect();
    left.append(spool_codec::encode(&jobs)).await.unwrap();
    let ledger = Ledger::new(bench.parts.database.clone(), bench.parts.series.clone());
    store_left(&ledger, &left).await.unwrap();
    let bars = bench.parts.database.bars();
    let stored = bars.stretch(&test_bench::hour(), at(0), at(150 * 3_600)).await.unwrap();
    assert_eq!((stored.len(), left.count().await.unwrap()), (150, 0));
}

/// What was kept of a symbol at `second`.
fn kept_at(second: i64) -> bytes::Bytes {
    let kept = serde_json::json!({
        "version": 1, "symbol": "CME:ES", "event_time": null, "last_tick": null, "volume": null,
        "cursor": null, "since": null, "floor": 0, "joined": null, "doubt": null, "forgotten": 0,
        "days": [], "minutes": [], "parents": [], "refetches": [], "repairs": [],
        "saved_at": second * 1_000_000,
    });
    let bytes = bytes::Bytes::from(kept.to_string());
    assert_eq!(snapshot_codec::decode(&bytes).unwrap().saved_at, at(second));
    bytes
}

#[tokio::test]
async fn what_an_earlier_run_left_of_a_symbol_replaces_nothing_newer() {
    let bench = Bench::start().await;
    let (left, states) = (spool(&bench.folder, 1 << 20).await, bench.parts.database.feed_state());
    let ledger = Ledger::new(bench.parts.database.clone(), bench.parts.series.clone());
    let symbol = test_bench::symbol();
    for (first, second, newest) in [(60, 120, 120), (180, 120, 180)] {
        states.save(&[(symbol.clone(), kept_at(first))], at(0)).await.unwrap();
        let job = Job::Keep(vec![(symbol.clone(), kept_at(second))]);
        left.append(spool_codec::encode(&[job])).await.unwrap();
        store_left(&ledger, &left).await.unwrap();
        assert_eq!(states.get(&symbol).await.unwrap(), Some(kept_at(newest)));
    }
}

#[tokio::test]
async fn what_an_earlier_run_left_is_stored_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let left = spool(&folder, 1 << 20).await;
    let symbol = Symbol::parse("CME:ES").unwrap();
    let kept = |bytes: &'static [u8]| Job::Keep(vec![(symbol.clone(), bytes.into())]);
    left.append(spool_codec::encode(&[kept(b"old"), job(1), kept(b"new")])).await.unwrap();
    let config = DatabaseConfig::Sqlite { data_dir: folder.path().to_owned() };
    let database = Database::connect(config, TaskTracker::new()).await.unwrap();
    let cached = SeriesCache::new(Cache::connect(CacheConfig::Memory).await.unwrap());
    store_left(&Ledger::new(database.clone(), cached), &left).await.unwrap();
    assert_eq!(left.count().await.unwrap(), 0);
    let state = database.feed_state().get(&symbol).await.unwrap();
    assert_eq!(state.as_deref(), Some(b"new".as_slice()));
    database.close().await;
}
