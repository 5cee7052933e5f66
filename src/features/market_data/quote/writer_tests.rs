//! What the writer takes in, and when it may end.

use tokio::time::{Instant, pause, timeout};

use super::*;
use crate::domain::ohlcv::BarSource;
use crate::features::market_data::quote::hub::Hub;
use crate::features::market_data::quote::job::Decided;
use crate::features::market_data::quote::meter::Meter;
use crate::features::market_data::quote::test_bench::{Bench, at, bar, hour};
use crate::infrastructure::persistence::LogBar;

/// Longer than it may take to give up.
const LONG: Duration = Duration::from_mins(10);

fn writer(bench: &Bench) -> (Writer, watch::Receiver<Standing>) {
    writer_to(bench, Hub::new(1, 0))
}

fn writer_to(bench: &Bench, hub: Hub) -> (Writer, watch::Receiver<Standing>) {
    let (told, standing) = watch::channel(Standing::default());
    let (rerolled, _) = mpsc::unbounded_channel();
    let scribe = Scribe::new(&bench.parts, hub, rerolled, Meter::new());
    (Writer::new(scribe, &bench.parts, told), standing)
}

async fn away(bench: &Bench) {
    bench.parts.database.close().await;
    let error = bench.parts.database.ping().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

/// A way to the writer, filled with so many jobs.
async fn jobs(count: usize) -> (mpsc::Sender<Job>, mpsc::Receiver<Job>) {
    let (sender, jobs) = mpsc::channel(count);
    for _ in 0..count {
        let bar = bar(1.0, 1, BarSource::Ticks);
        let decided = Decided::Bar { series: hour(), bar, old: None };
        sender.send(Job::Decided(vec![decided])).await.unwrap();
    }
    (sender, jobs)
}

#[tokio::test]
async fn it_ends_when_all_is_written() {
    let bench = Bench::start().await;
    let (writer, standing) = writer(&bench);
    let (_, work) = jobs(3).await;
    writer.run(work).await;
    let stored = bench.parts.database.bars().stretch(&hour(), at(0), at(0)).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(*standing.borrow(), Standing::default());
}

#[tokio::test]
async fn what_others_logged_is_told_when_the_database_is_back() {
    let bench = Bench::start().await;
    let (mut writer, _) = writer(&bench);
    away(&bench).await;
    writer.untold = true;
    let outcome = writer.attempt().await.unwrap().await;
    writer.ended(outcome).await;
    assert!(writer.away && writer.untold);
}

#[tokio::test]
async fn what_another_process_logs_is_told_while_nothing_closes_here() {
    let bench = Bench::start().await;
    let hub = Hub::new(1, 0);
    let (mut writer, _standing) = writer_to(&bench, hub.clone());
    writer.is_shared = true;
    let (_sender, work) = mpsc::channel(1);
    let running = bench.parts.lifecycle.spawn("writer", writer.run(work));
    let log = bench.parts.database.bar_log();
    for sequence in [1, 2] {
        let revision = u32::try_from(sequence).unwrap();
        let bar = bar(1.0, revision, BarSource::Provider).stored;
        log.append(&[LogBar { series: hour(), bar }], at(0)).await.unwrap();
        let told = async {
            while hub.newest().1 < sequence {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, told).await.expect("it is told");
    }
    running.abort();
}

#[tokio::test]
async fn without_a_database_and_a_spool_it_takes_no_more_than_fits() {
    let bench = Bench::start().await;
    let (writer, mut standing) = writer(&bench);
    away(&bench).await;
    let (sender, work) = jobs(4_000).await;
    pause();
    let running = bench.parts.lifecycle.spawn("writer", writer.run(work));
    standing.wait_for(|standing| !standing.has_room && standing.is_behind).await.unwrap();
    tokio::time::sleep(LONG).await;
    let taken = sender.capacity();
    assert!((2_048..2_200).contains(&taken), "{taken}");
    running.abort();
}

#[tokio::test]
async fn a_stop_without_a_database_and_a_spool_ends_after_a_few_tries_however_much_is_left() {
    let bench = Bench::start().await;
    let (writer, standing) = writer(&bench);
    away(&bench).await;
    bench.parts.lifecycle.stop();
    let (_, work) = jobs(3_000).await;
    pause();
    let begun = Instant::now();
    timeout(LONG, writer.run(work)).await.expect("it gives up");
    assert!(begun.elapsed() >= RETRY_EVERY, "and not at once");
    assert!(standing.borrow().is_behind, "what is left is not taken for written");
}
