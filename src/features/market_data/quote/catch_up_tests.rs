//! Readers of the past while bars are written, corrected and removed.

use super::*;
use crate::domain::ohlcv::BarSource::Ticks;
use crate::features::market_data::quote::test_bench::{Bench, at, bar, hour};

fn past(bench: &Bench) -> Past {
    let filter = LogFilter { symbols: vec![hour().symbol], intervals: vec![hour().interval] };
    let (database, sessions) = (bench.parts.database.clone(), bench.parts.sessions.clone());
    Past { database, sessions, filter }
}

async fn logged(bench: &Bench, bars: &[StoredBar]) {
    for bar in bars {
        let entry = LogBar { series: hour(), bar: *bar };
        bench.parts.database.bar_log().append(&[entry], Timestamp::now()).await.unwrap();
    }
}

async fn bars(reader: &mut CatchUp, past: &Past) -> Vec<(Timestamp, u32, Cursor)> {
    let Found::Bars(bars) = reader.next(past).await.unwrap() else { panic!("no bars") };
    let told = |(_, bar, cursor): (Series, Bar, Cursor)| {
        (bar.stored.open_time, bar.stored.revision(), cursor)
    };
    bars.into_iter().map(told).collect()
}

#[tokio::test]
async fn a_revision_that_is_older_than_the_stored_bar_is_not_told_behind_it() {
    let bench = Bench::start().await;
    let past = past(&bench);
    // All of this is logged while the stored bars are read.
    let (first, corrected) = (bar(1.0, 1, Ticks).stored, bar(2.0, 2, Ticks).stored);
    let second = StoredBar::closed(at(3_600), first.values, Ticks);
    let mut reader = CatchUp::stored(&past.filter, at(0), None, 0);
    logged(&bench, &[first, second, corrected]).await;
    let stored = bars(&mut reader, &past).await;
    let told: Vec<_> = stored.iter().map(|(open, revision, _)| (*open, *revision)).collect();
    assert_eq!(told, [(at(0), 2), (at(3_600), 1)]);
    assert!(bars(&mut reader, &past).await.is_empty(), "no more is stored");
    assert_eq!(reader.cursor(), stored[1].2, "what is said in between resumes there, too");

    let log = bars(&mut reader, &past).await;
    let told: Vec<_> = log.iter().map(|(open, revision, _)| (*open, *revision)).collect();
    assert_eq!(told, [(at(3_600), 1), (at(0), 2)], "perhaps twice, and never an older one");
    // Who resumes in between is to know what was stored; behind it that is the past.
    assert!(log[0].2.stored.is_some() && log[1].2 == Cursor::at(3));
    assert!(matches!(reader.next(&past).await.unwrap(), Found::End));
}

#[tokio::test]
async fn two_bars_of_a_series_that_close_together_are_both_told_and_resumed_between() {
    let bench = Bench::start().await;
    let past = past(&bench);
    let values = bar(1.0, 1, Ticks).stored.values;
    // The second lies off the grid, as a provider may send it: it closes with the first.
    let opens = [at(0), at(1_694), at(3_600)];
    logged(&bench, &opens.map(|open| StoredBar::closed(open, values, Ticks))).await;
    let told = bars(&mut CatchUp::stored(&past.filter, at(0), None, 3), &past).await;
    assert_eq!(told.iter().map(|(open, ..)| *open).collect::<Vec<_>>(), opens);

    for (sent, (_, _, cursor)) in (1..).zip(&told) {
        let mut reader = CatchUp::stored(&past.filter, at(0), cursor.stored.clone(), 3);
        let rest = bars(&mut reader, &past).await;
        assert_eq!(rest.iter().map(|(open, ..)| *open).collect::<Vec<_>>(), opens[sent..]);
    }
}

#[tokio::test]
async fn what_was_removed_before_it_was_read_is_said_with_the_first_place_that_is_left() {
    let bench = Bench::start().await;
    let revisions = [1, 2, 3].map(|revision| bar(1.0, revision, Ticks).stored);
    logged(&bench, &revisions).await;
    let log = bench.parts.database.bar_log();
    let mut reader = CatchUp::after(1);
    let removed = log.trim(Timestamp::MAX).await.unwrap();
    let head = log.head().await.unwrap();
    assert!(removed >= 2 && head.first > 2, "{removed} {head:?}");
    let found = reader.next(&past(&bench)).await.unwrap();
    let Found::Expired(earliest) = found else { panic!("not told") };
    assert_eq!(earliest, Cursor::at(head.first - 1));
}
