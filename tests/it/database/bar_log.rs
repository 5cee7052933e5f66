//! What the bar log promises, on both engines.

use jiff::SignedDuration;
use pocketquant::domain::ohlcv::{BarSource, StoredBar};
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::domain::sync::SyncDiff;
use pocketquant::infrastructure::persistence::{
    Database, DatabaseError, LogBar, LogFilter, LogHead, LogPage,
};
use tokio::task::JoinSet;

use super::{
    Store, all, closed, forming, inserted, on_both_engines, revision, series, time, unknown,
    values, write,
};

on_both_engines!(
    what_is_appended_is_stored_and_read_in_order,
    an_empty_log_begins_at_one,
    a_forming_bar_is_refused_and_nothing_is_written,
    appending_again_logs_nothing_twice,
    a_bar_that_replaces_nothing_is_not_logged,
    what_was_stored_without_the_log_is_logged_as_it_is_stored,
    a_bar_may_be_closed_and_corrected_in_one_batch,
    a_filter_passes_over_others_and_says_how_far,
    reading_goes_on_where_it_stopped_whatever_the_page,
    concurrent_writers_leave_one_sequence_without_holes,
    an_append_is_finished_when_its_caller_goes_away,
    trimming_never_frees_a_sequence,
    trimming_stops_at_the_first_that_stays,
    a_reader_is_told_what_was_trimmed_while_it_read,
    a_sync_logs_corrections_and_what_the_feed_tracks,
    a_large_batch_is_logged_whole,
    nothing_is_left_to_recover_after_an_append,
    a_log_keeps_its_name,
);

pub fn aapl() -> Series {
    series("NASDAQ:AAPL", Interval::M1)
}

pub fn entries(series: &Series, bars: impl IntoIterator<Item = StoredBar>) -> Vec<LogBar> {
    bars.into_iter().map(|bar| LogBar { series: series.clone(), bar }).collect()
}

pub async fn append(database: &Database, bars: &[LogBar]) -> Vec<(u64, usize)> {
    database.bar_log().append(bars, time(0)).await.unwrap()
}

pub async fn read(database: &Database, after: u64, limit: u32) -> LogPage {
    database.bar_log().read(after, &LogFilter::default(), limit).await.unwrap()
}

/// The log from its beginning; fails on a hole.
pub async fn whole_log(database: &Database) -> Vec<LogBar> {
    let (mut log, mut after) = (Vec::new(), 0);
    loop {
        let page = read(database, after, 700).await;
        for (sequence, entry) in page.entries {
            log.push(entry);
            assert_eq!(sequence, log.len() as u64);
        }
        if page.examined == after {
            return log;
        }
        after = page.examined;
    }
}

async fn what_is_appended_is_stored_and_read_in_order(store: &Store) {
    let mut ticks = closed(1, 2.0);
    (ticks.source, ticks.tick_count) = (BarSource::Ticks, Some(u32::MAX));
    let other = series("CME:ES1!", Interval::Mo1);
    let mut bars = entries(&aapl(), [closed(0, 1.0), ticks]);
    bars.extend(entries(&other, [revision(5, 3.0, 7)]));
    assert_eq!(append(&store.database, &bars).await, [(1, 0), (2, 1), (3, 2)]);
    assert_eq!(all(&store.database, &aapl()).await, [closed(0, 1.0), ticks]);
    assert_eq!(all(&store.database, &other).await, [revision(5, 3.0, 7)]);
    let page = read(&store.database, 0, 9).await;
    let expected: Vec<_> = (1..).zip(bars).collect();
    assert_eq!(page, LogPage { entries: expected, examined: 3, first: 1 });
    let summary = store.database.bars().summary(&aapl()).await.unwrap();
    assert_eq!(summary.bar_count, 2);
}

async fn an_empty_log_begins_at_one(store: &Store) {
    let log = store.database.bar_log();
    let head = log.head().await.unwrap();
    assert_eq!((head, head.last()), (LogHead { first: 1, next: 1 }, 0));
    assert_eq!(log.append(&[], time(0)).await.unwrap(), []);
    assert_eq!(log.recover().await.unwrap(), []);
    assert_eq!(log.trim(time(9)).await.unwrap(), 0);
    for after in [0, 7, u64::MAX] {
        let nothing = LogPage { entries: vec![], examined: after, first: 1 };
        assert_eq!(read(&store.database, after, 9).await, nothing);
    }
    assert_eq!(append(&store.database, &entries(&aapl(), [closed(0, 1.0)])).await, [(1, 0)]);
    assert_eq!(log.head().await.unwrap(), LogHead { first: 1, next: 2 });
    let page = read(&store.database, 0, 0).await;
    assert_eq!((page.entries.len(), page.examined), (0, 0));
}

async fn a_forming_bar_is_refused_and_nothing_is_written(store: &Store) {
    let bars = entries(&aapl(), [closed(0, 1.0), forming(1, 1.0)]);
    let error = store.database.bar_log().append(&bars, time(0)).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("NASDAQ:AAPL 1m"), "{error}");
    assert_eq!(all(&store.database, &aapl()).await, []);
    assert_eq!(whole_log(&store.database).await, []);
}

async fn appending_again_logs_nothing_twice(store: &Store) {
    let bars = entries(&aapl(), (0..5).map(|index| closed(index, 1.0)));
    append(&store.database, &bars[1..3]).await;
    let expected = [(1, 1), (2, 2), (3, 0), (4, 3), (5, 4)];
    for _ in 0..3 {
        assert_eq!(append(&store.database, &bars).await, expected);
    }
    assert_eq!(whole_log(&store.database).await.len(), 5);
    assert_eq!(all(&store.database, &aapl()).await.len(), 5);
    // Twice in one batch is once, too.
    let twice = entries(&aapl(), [closed(9, 1.0), closed(9, 1.0)]);
    assert_eq!(append(&store.database, &twice).await, [(6, 0), (6, 1)]);
    // So is one whose bar was removed since: it is stored again.
    store.database.bars().delete(&aapl(), &[time(9)]).await.unwrap();
    assert_eq!(append(&store.database, &twice[..1]).await, [(6, 0)]);
    assert_eq!(all(&store.database, &aapl()).await.len(), 6);
}

async fn a_bar_that_replaces_nothing_is_not_logged(store: &Store) {
    append(&store.database, &entries(&aapl(), [closed(0, 1.0)])).await;
    let history = inserted([revision(1, 1.0, 3), unknown(2, 1.0), forming(3, 1.0)]);
    write(&store.database, &aapl(), &history).await;
    let bars = entries(&aapl(), (0..4).map(|index| closed(index, 2.0)));
    // The same revision, a lower one, one that beats unknown finality, one that ends a forming bar.
    assert_eq!(append(&store.database, &bars).await, [(2, 2), (3, 3)]);
    let expected = [closed(0, 1.0), revision(1, 1.0, 3), closed(2, 2.0), closed(3, 2.0)];
    assert_eq!(all(&store.database, &aapl()).await, expected);
    // Another's bar of the same revision is not ours.
    assert_eq!(append(&store.database, &entries(&aapl(), [closed(3, 7.0)])).await, []);
    assert_eq!(whole_log(&store.database).await[1..], bars[2..]);
}

async fn what_was_stored_without_the_log_is_logged_as_it_is_stored(store: &Store) {
    let mut ticks = closed(1, 1.0);
    (ticks.source, ticks.tick_count) = (BarSource::Ticks, Some(7));
    let history = inserted([closed(0, 1.0), ticks, closed(2, 1.0), closed(3, 1.0)]);
    write(&store.database, &aapl(), &history).await;
    // With other values, twice; as it is, twice; with its correction.
    let bars = [closed(0, 2.0), closed(0, 2.0), ticks, ticks, closed(2, 2.0), revision(2, 3.0, 2)];
    let bars = entries(&aapl(), bars);
    for _ in 0..2 {
        assert_eq!(append(&store.database, &bars).await, [(2, 2), (2, 3), (4, 5)]);
    }
    let expected = [closed(0, 1.0), ticks, closed(2, 1.0), revision(2, 3.0, 2)];
    assert_eq!(whole_log(&store.database).await, entries(&aapl(), expected));
    let stored = [closed(0, 1.0), ticks, revision(2, 3.0, 2), closed(3, 1.0)];
    assert_eq!(all(&store.database, &aapl()).await, stored);
}

async fn a_bar_may_be_closed_and_corrected_in_one_batch(store: &Store) {
    let bars = entries(&aapl(), [closed(0, 1.0), revision(0, 2.0, 2), closed(1, 1.0)]);
    assert_eq!(append(&store.database, &bars).await, [(1, 0), (2, 1), (3, 2)]);
    assert_eq!(whole_log(&store.database).await, bars);
    assert_eq!(all(&store.database, &aapl()).await, [revision(0, 2.0, 2), closed(1, 1.0)]);
    // The wrong way round, what comes second is old.
    let bars = entries(&aapl(), [revision(5, 2.0, 2), closed(5, 1.0)]);
    assert_eq!(append(&store.database, &bars).await, [(4, 0)]);
    assert_eq!(all(&store.database, &aapl()).await[2], revision(5, 2.0, 2));
}

async fn a_filter_passes_over_others_and_says_how_far(store: &Store) {
    let names = ["NASDAQ:AAPL", "NYSE:AAPL", "NASDAQ:MSFT"];
    let mut bars = Vec::new();
    for index in 0..4 {
        for name in names {
            for interval in [Interval::M1, Interval::Mo1] {
                bars.extend(entries(&series(name, interval), [closed(index, 1.0)]));
            }
        }
    }
    append(&store.database, &bars).await;
    let read = async |symbols: &[&str], intervals: &[Interval], after, limit| {
        let symbols = symbols.iter().map(|name| Symbol::parse(name).unwrap()).collect();
        let filter = LogFilter { symbols, intervals: intervals.to_vec() };
        let page = store.database.bar_log().read(after, &filter, limit).await.unwrap();
        for (sequence, entry) in &page.entries {
            assert_eq!(*entry, bars[usize::try_from(*sequence).unwrap() - 1]);
        }
        let sequences: Vec<_> = page.entries.iter().map(|(sequence, _)| *sequence).collect();
        (sequences, page.examined)
    };
    let months = [Interval::Mo1];
    assert_eq!(read(&["NYSE:AAPL"], &months, 0, 9).await, (vec![4, 10, 16, 22], 24));
    assert_eq!(read(&["NYSE:AAPL"], &months, 4, 2).await, (vec![10, 16], 16));
    assert_eq!(read(&["NYSE:AAPL"], &months, 22, 2).await, (vec![], 24));
    // Not the pairs of one's exchange with the other's code.
    let two = ["NASDAQ:MSFT", "NYSE:AAPL"];
    assert_eq!(read(&two, &[Interval::M1], 0, 3).await, (vec![3, 5, 9], 9));
    assert_eq!(read(&[], &months, 20, 9).await, (vec![22, 24], 24));
    assert_eq!(read(&["X:Y"], &[], 0, 9).await, (vec![], 24));
}

async fn reading_goes_on_where_it_stopped_whatever_the_page(store: &Store) {
    const BARS: i64 = 12_000;
    let bars = entries(&aapl(), (0..BARS).map(|index| closed(index, 1.0)));
    append(&store.database, &bars).await;
    for limit in [1_000, 7_777, u32::MAX] {
        let (mut after, mut seen) = (0, 0);
        while seen < bars.len() {
            let page = read(&store.database, after, limit).await;
            for (sequence, entry) in page.entries {
                assert_eq!((sequence, &entry), (seen as u64 + 1, &bars[seen]));
                seen += 1;
            }
            assert_eq!(page.examined, seen as u64);
            assert!(page.examined > after && page.examined - after <= 10_000);
            after = page.examined;
        }
    }
    // What nobody wants is passed over in steps.
    let filter = LogFilter { intervals: vec![Interval::D1], ..LogFilter::default() };
    let page = store.database.bar_log().read(0, &filter, 9).await.unwrap();
    assert_eq!((page.entries.len(), page.examined), (0, 10_000));
}

async fn concurrent_writers_leave_one_sequence_without_holes(store: &Store) {
    const ROUNDS: i64 = 12;
    let mut tasks = JoinSet::new();
    for writer in 0..6_u32 {
        let database = store.database.clone();
        tasks.spawn(async move {
            let mut logged = Vec::new();
            for round in 0..ROUNDS {
                // Half of its own series, half of one that all write; each corrects in turn.
                let own = series(&format!("X:W{writer}"), Interval::M1);
                let mut bars = entries(&own, [closed(round, 1.0), closed(round + 100, 1.0)]);
                bars.extend(entries(
                    &aapl(),
                    [revision(round, f64::from(writer) + 2.0, writer + 1)],
                ));
                let sequences = append(&database, &bars).await;
                assert!(sequences.len() >= 2 && sequences.is_sorted());
                logged.extend(sequences.into_iter().map(|(at, index)| (at, bars[index].clone())));
            }
            logged
        });
    }
    // A reader meanwhile sees a beginning of the log, and never less than before.
    let mut seen = Vec::new();
    let mut logged = Vec::new();
    while let Some(done) = tasks.join_next().await {
        logged.extend(done.unwrap());
        let now = whole_log(&store.database).await;
        assert!(now.starts_with(&seen));
        seen = now;
    }
    logged.sort_by_key(|(sequence, _)| *sequence);
    let log = whole_log(&store.database).await;
    assert_eq!(logged, (1..).zip(log.clone()).collect::<Vec<_>>());
    for round in 0..ROUNDS {
        let revisions: Vec<u32> = log
            .iter()
            .filter(|entry| entry.series == aapl() && entry.bar.open_time == time(round))
            .map(|entry| entry.bar.revision())
            .collect();
        assert!(revisions.is_sorted() && revisions.last() == Some(&6), "{revisions:?}");
    }
    let stored = all(&store.database, &aapl()).await;
    assert!(stored.iter().all(|bar| bar.revision() == 6 && bar.values == values(7.0)));
}

async fn an_append_is_finished_when_its_caller_goes_away(store: &Store) {
    let bars = entries(&aapl(), (0..6_000).map(|index| closed(index, 1.0)));
    let log = store.database.bar_log();
    {
        let mut append = Box::pin(log.append(&bars, time(0)));
        assert!(futures::poll!(&mut append).is_pending());
    }
    store.tasks.close();
    store.tasks.wait().await;
    assert_eq!(whole_log(&store.database).await, bars);
    assert_eq!(all(&store.database, &aapl()).await.len(), 6_000);
}

async fn trimming_never_frees_a_sequence(store: &Store) {
    let log = store.database.bar_log();
    for index in 0..5 {
        let bars = entries(&aapl(), [closed(index, 1.0)]);
        log.append(&bars, time(index)).await.unwrap();
    }
    assert_eq!(log.trim(time(0)).await.unwrap(), 0);
    let just_before = time(2) - SignedDuration::from_nanos(1);
    assert_eq!(log.trim(just_before).await.unwrap(), 2);
    assert_eq!(log.head().await.unwrap(), LogHead { first: 3, next: 6 });
    let page = read(&store.database, 0, 2).await;
    let kept: Vec<_> = page.entries.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!((kept, page.examined, page.first), (vec![3, 4], 4, 3));
    assert_eq!(log.trim(time(99)).await.unwrap(), 3);
    assert_eq!(log.trim(time(99)).await.unwrap(), 0);
    let head = log.head().await.unwrap();
    assert_eq!((head, head.last()), (LogHead { first: 6, next: 6 }, 5));
    let nothing = LogPage { entries: vec![], examined: 2, first: 6 };
    assert_eq!(read(&store.database, 2, 9).await, nothing);
    // What is stored stays, and what is logged next goes on.
    assert_eq!(all(&store.database, &aapl()).await.len(), 5);
    let bars = entries(&aapl(), [closed(0, 1.0), closed(9, 1.0)]);
    // Nobody knows any more that the first was logged: it is told twice rather than never.
    assert_eq!(append(&store.database, &bars).await, [(6, 0), (7, 1)]);
}

async fn trimming_stops_at_the_first_that_stays(store: &Store) {
    let log = store.database.bar_log();
    // The clock was set back at the fourth.
    for (index, at) in (0..).zip([1, 2, 9, 3, 4]) {
        log.append(&entries(&aapl(), [closed(index, 1.0)]), time(at)).await.unwrap();
    }
    assert_eq!(log.trim(time(5)).await.unwrap(), 2);
    assert_eq!(log.head().await.unwrap(), LogHead { first: 3, next: 6 });
}

async fn a_reader_is_told_what_was_trimmed_while_it_read(store: &Store) {
    const BARS: u64 = 25_000;
    let bars = entries(&aapl(), (0..25_000).map(|index| closed(index, 1.0)));
    append(&store.database, &bars).await;
    let (database, trimmer) = (store.database.clone(), store.database.bar_log());
    let trim = tokio::spawn(async move { trimmer.trim(time(1)).await.unwrap() });
    let mut after = 0;
    loop {
        let page = read(&database, after, 500).await;
        if page.first > after + 1 {
            break;
        }
        let expected: Vec<u64> = (after + 1..=page.examined).collect();
        let sequences: Vec<u64> = page.entries.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(sequences, expected, "a hole that nothing tells of");
        after = page.examined;
        if after == BARS {
            after = 0;
        }
    }
    assert_eq!(trim.await.unwrap(), BARS);
    let head = database.bar_log().head().await.unwrap();
    assert_eq!(head, LogHead { first: BARS + 1, next: BARS + 1 });
}

async fn a_sync_logs_corrections_and_what_the_feed_tracks(store: &Store) {
    let stored = inserted([closed(0, 1.0), forming(1, 1.0), forming(5, 1.0)]);
    write(&store.database, &aapl(), &stored).await;
    let diff = SyncDiff {
        inserted: vec![closed(-1, 2.0), closed(6, 2.0), forming(7, 2.0)],
        updated: vec![revision(0, 2.0, 2), closed(1, 2.0), closed(5, 2.0)],
        ..SyncDiff::default()
    };
    let bars = store.database.bars();
    let logged = bars.write_logged(&aapl(), &diff, Some(time(5)), time(9)).await.unwrap();
    let expected = entries(&aapl(), [revision(0, 2.0, 2), closed(5, 2.0), closed(6, 2.0)]);
    assert_eq!(logged, (1..).zip(expected.clone()).collect::<Vec<_>>());
    assert_eq!(whole_log(&store.database).await, expected);
    let stored = [
        closed(-1, 2.0),
        revision(0, 2.0, 2),
        closed(1, 2.0),
        closed(5, 2.0),
        closed(6, 2.0),
        forming(7, 2.0),
    ];
    assert_eq!(all(&store.database, &aapl()).await, stored);
    // Where the feed tracks nothing, only corrections are.
    let diff = SyncDiff {
        inserted: vec![closed(8, 2.0)],
        updated: vec![revision(6, 3.0, 2), closed(7, 3.0)],
        ..SyncDiff::default()
    };
    let logged = bars.write_logged(&aapl(), &diff, None, time(9)).await.unwrap();
    assert_eq!(logged, [(4, entries(&aapl(), [revision(6, 3.0, 2)]).remove(0))]);
    assert_eq!(all(&store.database, &aapl()).await.len(), 7);
    let nothing = bars.write_logged(&aapl(), &SyncDiff::default(), None, time(9)).await.unwrap();
    assert_eq!(nothing, []);
}

async fn a_large_batch_is_logged_whole(store: &Store) {
    let mut bars = Vec::new();
    for index in 0..400 {
        for interval in Interval::ALL {
            let name = format!("X:S{}", index % 40);
            bars.extend(entries(&series(&name, interval), [closed(index, 1.0)]));
        }
    }
    let sequences = append(&store.database, &bars).await;
    assert_eq!(sequences, (1..).zip(0..bars.len()).collect::<Vec<_>>());
    assert_eq!(whole_log(&store.database).await, bars);
    let revised: Vec<_> = bars
        .iter()
        .map(|entry| LogBar {
            bar: entry.bar.revised(values(2.0), BarSource::Repair),
            series: entry.series.clone(),
        })
        .collect();
    append(&store.database, &revised).await;
    let series = series("X:S7", Interval::H4);
    let stored = all(&store.database, &series).await;
    assert_eq!(stored.len(), 10);
    assert!(stored.iter().all(|bar| bar.revision() == 2 && bar.values == values(2.0)));
}

async fn nothing_is_left_to_recover_after_an_append(store: &Store) {
    append(&store.database, &entries(&aapl(), [closed(0, 1.0)])).await;
    assert_eq!(store.database.bar_log().recover().await.unwrap(), []);
    assert_eq!(store.database.bar_log().head().await.unwrap(), LogHead { first: 1, next: 2 });
}

async fn a_log_keeps_its_name(store: &Store) {
    let log = store.database.bar_log();
    let (one, other) = tokio::join!(log.id(), log.id());
    let id = one.unwrap();
    assert_eq!(other.unwrap(), id);
    append(&store.database, &entries(&aapl(), [closed(0, 1.0)])).await;
    assert_eq!(log.id().await.unwrap(), id);
    let another = match store.folder {
        Some(_) => Store::sqlite().await,
        None => Store::mongodb().await,
    };
    assert_ne!(another.database.bar_log().id().await.unwrap(), id);
}
