//! What is told, and what is kept, where a write does not go as it should.

use super::*;
use crate::domain::ohlcv::BarSource;
use crate::domain::sync::SyncDiff;
use crate::features::market_data::quote::ring::Ahead;
use crate::features::market_data::quote::test_bench::{Bench, at, bar, hour, symbol};

fn scribe(bench: &Bench) -> Scribe {
    let (rerolled, _) = mpsc::unbounded_channel();
    Scribe::new(&bench.parts, Hub::new(1, 0), rerolled, Meter::new())
}

fn closed(price: f64) -> Decided {
    Decided::Bar { series: hour(), bar: bar(price, 1, BarSource::Ticks), old: None }
}

#[tokio::test]
async fn a_bar_that_somebody_else_wrote_otherwise_is_told_as_they_did() {
    for logged in [true, false] {
        let bench = Bench::start().await;
        let (scribe, database) = (scribe(&bench), &bench.parts.database);
        let theirs = bar(1.0, 1, BarSource::Provider).stored;
        if logged {
            let first = LogBar { series: hour(), bar: theirs };
            database.bar_log().append(&[first], Timestamp::now()).await.unwrap();
        } else {
            // As a process does that does not know that the feed of another one tracks it.
            let diff = SyncDiff { inserted: vec![theirs], ..SyncDiff::default() };
            database.bars().write(&hour(), &diff, Timestamp::now()).await.unwrap();
        }
        let over = LiveChange::IntervalClosed(hour(), at(3_600));
        let decided = vec![closed(2.0), Decided::Live(over.clone())];
        scribe.write(vec![Job::Decided(decided)]).await.unwrap();

        let Ahead::Entries(told) = scribe.hub.entries(0, 9) else { panic!("gone") };
        let told: Vec<_> = told.iter().map(|entry| (entry.sequence, &entry.change)).collect();
        let expected = [(1, &LiveChange::Stored(hour(), theirs)), (1, &over)];
        assert_eq!(told, expected, "logged: {logged}");
        let events = bench.told();
        let [event] = &events[..] else { panic!("{events:?}") };
        let EventPayload::BarCompleted { bar, .. } = &event.event.payload else { panic!() };
        assert_eq!(bar.stored, theirs, "logged: {logged}");
    }
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
