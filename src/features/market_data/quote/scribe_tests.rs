//! What is told, and what is kept, where a write does not go as it should.

use super::*;
use crate::domain::ohlcv::BarSource;
use crate::features::market_data::quote::test_bench::{Bench, bar, hour, symbol};

fn scribe(bench: &Bench) -> Scribe {
    let (rerolled, _) = mpsc::unbounded_channel();
    Scribe::new(&bench.parts, Hub::new(1, 0), rerolled, Meter::new())
}

fn closed(price: f64) -> Decided {
    Decided::Bar { series: hour(), bar: bar(price, 1, BarSource::Ticks), old: None }
}

#[tokio::test]
async fn a_bar_that_somebody_else_wrote_otherwise_is_told_as_they_did() {
    let bench = Bench::start().await;
    let scribe = scribe(&bench);
    let first = LogBar { series: hour(), bar: bar(1.0, 1, BarSource::Ticks).stored };
    let log = bench.parts.database.bar_log();
    log.append(&[first], Timestamp::now()).await.unwrap();
    scribe.write(vec![Job::Decided(vec![closed(2.0)])]).await.unwrap();
    assert_eq!(bench.told().len(), 0, "it is not what is stored");
    assert_eq!(scribe.hub.newest(), (1, 1), "streams have it from the log");
}

#[tokio::test]
async fn bars_that_cannot_be_written_are_not_taken_for_stored() {
    let bench = Bench::start().await;
    let scribe = scribe(&bench);
    let keep = || Job::Keep(vec![(symbol(), Bytes::from_static(b"behind the bar"))]);
    let file = rusqlite::Connection::open(bench.folder.path().join("pocketquant.db")).unwrap();
    file.execute_batch("ALTER TABLE bar_log RENAME TO elsewhere").unwrap();
    scribe.write(vec![Job::Decided(vec![closed(1.0)]), keep()]).await.unwrap();
    let state = bench.parts.database.feed_state().get(&symbol()).await.unwrap();
    assert_eq!(state, None, "the next start must not believe that the bar is there");
}
