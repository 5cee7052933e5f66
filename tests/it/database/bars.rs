//! What bars promise, on both engines.

use futures::StreamExt as _;
use pocketquant::domain::ohlcv::{BarSource, BarState, Ohlcv, StoredBar};
use pocketquant::domain::shared::Interval;
use pocketquant::domain::sync::SyncDiff;
use pocketquant::infrastructure::persistence::{
    BarColumns, BarOrder, BarQuery, Database, SeriesSummary,
};
use tokio::task::JoinSet;

use super::{
    Store, all, closed, forming, inserted, newest, on_both_engines, revision, series, time,
    unknown, updated, values, write,
};

on_both_engines!(
    values_are_read_as_they_were_written,
    bars_are_found_by_range_order_limit_and_finality,
    a_stretch_has_both_its_ends_and_what_is_forming,
    a_series_is_told_from_its_neighbours,
    a_higher_revision_replaces_and_others_are_ignored,
    a_final_bar_replaces_a_forming_one_and_never_the_reverse,
    a_bar_of_unknown_finality_gives_way,
    bars_of_one_time_are_written_one_after_the_other,
    writers_of_one_range_leave_the_highest_revision_of_each_bar,
    two_writers_may_insert_the_same_bars,
    the_summary_counts_final_bars_only,
    deleted_bars_are_gone,
    the_oldest_bars_are_deleted_a_few_at_a_time,
    a_write_is_finished_when_its_caller_goes_away,
    an_export_has_every_final_bar_once_whatever_the_chunk,
    an_export_keeps_to_its_range,
    the_export_of_nothing_is_empty,
);

async fn values_are_read_as_they_were_written(store: &Store) {
    let series = series("NYMEX:CL1!", Interval::Mo1);
    let ohlcv = |a: f64, b: f64, volume| Ohlcv::new(a, a.max(b), a.min(b), b, volume).unwrap();
    let numbers = [
        ohlcv(-37.63, -10.0, Some(0.0)),
        ohlcv(0.1 + 0.2, 1e-300, None),
        ohlcv(f64::MAX, f64::MIN_POSITIVE, Some(f64::MAX)),
        ohlcv(3.0, 4.0, Some(9_007_199_254_740_993.0)),
    ];
    let mut bars = Vec::new();
    for (index, values) in (0..).zip(numbers) {
        for (offset, source) in (0..).zip(BarSource::ALL) {
            let number = [0, 1, 7][usize::try_from(offset).unwrap()];
            let open = time(index * 10 + offset);
            let mut bar = StoredBar::with_revision(open, values, number, source);
            bar.tick_count = (offset > 0).then_some(u32::MAX);
            bars.push(bar);
        }
    }
    write(&store.database, &series, &inserted(bars.clone())).await;
    assert_eq!(all(&store.database, &series).await, bars);
}

async fn bars_are_found_by_range_order_limit_and_finality(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let bars: Vec<_> = (0..9).map(|index| closed(index, 5.0)).chain([forming(9, 5.0)]).collect();
    write(&store.database, &series, &inserted(bars.clone())).await;
    let find = async |start: Option<i64>, end: Option<i64>, order, limit, include_forming| {
        let (start, end) = (start.map(time), end.map(time));
        let query = BarQuery { start, end, order, limit, include_forming };
        let found = store.database.bars().find(&series, &query).await.unwrap();
        let index = |bar: &StoredBar| bars.iter().position(|other| other == bar).unwrap();
        found.iter().map(index).collect::<Vec<_>>()
    };
    let (newest, oldest) = (BarOrder::NewestFirst, BarOrder::OldestFirst);
    assert_eq!(find(None, None, newest, 3, false).await, [8, 7, 6]);
    assert_eq!(find(None, None, newest, 3, true).await, [9, 8, 7]);
    assert_eq!(find(None, None, oldest, 2, true).await, [0, 1]);
    assert_eq!(find(Some(3), Some(6), oldest, 99, true).await, [3, 4, 5]);
    assert_eq!(find(Some(3), None, oldest, 2, true).await, [3, 4]);
    assert_eq!(find(None, Some(3), newest, 99, true).await, [2, 1, 0]);
    assert_eq!(find(Some(4), Some(4), newest, 99, true).await, [0_usize; 0]);
    assert_eq!(find(None, None, newest, 0, true).await, [0_usize; 0]);
    let a_hair_later = time(3) + jiff::SignedDuration::from_nanos(1);
    let query = BarQuery {
        start: Some(a_hair_later),
        end: Some(a_hair_later + jiff::SignedDuration::from_mins(1)),
        order: oldest,
        limit: 9,
        include_forming: true,
    };
    assert_eq!(store.database.bars().find(&series, &query).await.unwrap(), [bars[4]]);
}

async fn a_stretch_has_both_its_ends_and_what_is_forming(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let bars = [closed(0, 1.0), closed(1, 2.0), forming(2, 3.0), closed(3, 4.0)];
    write(&store.database, &series, &inserted(bars)).await;
    let stretch = store.database.bars().stretch(&series, time(1), time(2)).await.unwrap();
    assert_eq!(stretch, bars[1..3]);
}

async fn a_series_is_told_from_its_neighbours(store: &Store) {
    let ours = series("NASDAQ:AAPL", Interval::M1);
    let mut others = [
        series("NASDAQ:AAPL", Interval::Mo1),
        series("NASDAQ:AAP", Interval::M1),
        series("NYSE:AAPL", Interval::M1),
    ];
    write(&store.database, &ours, &inserted([closed(0, 7.0)])).await;
    for other in &others {
        assert_eq!(all(&store.database, other).await, []);
        assert_eq!(store.database.bars().newest(other).await.unwrap(), None);
        write(&store.database, other, &inserted([closed(0, 9.0)])).await;
    }
    assert_eq!(all(&store.database, &ours).await, [closed(0, 7.0)]);
    let stored = store.database.bars().series().await.unwrap();
    others.sort();
    assert_eq!(stored.len(), 4);
    assert!(stored.is_sorted() && stored.contains(&ours));
    assert!(others.iter().all(|other| stored.contains(other)));
}

async fn a_higher_revision_replaces_and_others_are_ignored(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    for as_diff in [inserted as fn(Vec<StoredBar>) -> SyncDiff, updated] {
        for (number, close, expected) in [
            (2, 1.0, 1.0),
            (1, 2.0, 1.0),
            (2, 3.0, 1.0),
            (3, 4.0, 4.0),
            (9, 5.0, 5.0),
            (8, 6.0, 5.0),
        ] {
            write(&store.database, &series, &as_diff(vec![revision(0, close, number)])).await;
            let stored = all(&store.database, &series).await;
            assert_eq!(stored[0].values, values(expected), "revision {number}");
        }
        store.database.bars().delete(&series, &[time(0)]).await.unwrap();
    }
}

async fn a_final_bar_replaces_a_forming_one_and_never_the_reverse(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    for as_diff in [inserted as fn(Vec<StoredBar>) -> SyncDiff, updated] {
        for (bar, expected) in [
            (forming(0, 1.0), forming(0, 1.0)),
            (forming(0, 2.0), forming(0, 2.0)),
            (closed(0, 3.0), closed(0, 3.0)),
            (forming(0, 4.0), closed(0, 3.0)),
            (closed(0, 5.0), closed(0, 3.0)),
        ] {
            write(&store.database, &series, &as_diff(vec![bar])).await;
            assert_eq!(all(&store.database, &series).await, [expected]);
        }
        store.database.bars().delete(&series, &[time(0)]).await.unwrap();
    }
}

async fn a_bar_of_unknown_finality_gives_way(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let unknown = unknown(0, 1.0);
    for by in [forming(0, 2.0), closed(0, 2.0), revision(0, 2.0, 2)] {
        write(&store.database, &series, &inserted([unknown])).await;
        assert_eq!(all(&store.database, &series).await, [unknown]);
        write(&store.database, &series, &updated([by])).await;
        assert_eq!(all(&store.database, &series).await, [by]);
        store.database.bars().delete(&series, &[time(0)]).await.unwrap();
    }
}

async fn bars_of_one_time_are_written_one_after_the_other(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let (first, second, last) = (forming(0, 1.0), unknown(0, 2.0), forming(0, 3.0));
    for (bars, expected) in [
        (vec![first, second, last], last),
        (vec![first, last, second], second),
        (vec![last, closed(0, 4.0), first, closed(0, 5.0), second], closed(0, 4.0)),
        ((1..20).map(|number| revision(0, 6.0, number)).collect(), revision(0, 6.0, 19)),
    ] {
        for diff in [inserted(bars.clone()), updated(bars)] {
            write(&store.database, &series, &inserted([unknown(0, 7.0)])).await;
            write(&store.database, &series, &diff).await;
            assert_eq!(all(&store.database, &series).await, [expected]);
            store.database.bars().delete(&series, &[time(0)]).await.unwrap();
        }
    }
}

async fn writers_of_one_range_leave_the_highest_revision_of_each_bar(store: &Store) {
    const BARS: i64 = 2_500;
    let series = series("NASDAQ:AAPL", Interval::M1);
    let mut writers = JoinSet::new();
    for writer in 0..6_u32 {
        let (database, series) = (store.database.clone(), series.clone());
        writers.spawn(async move {
            // Each is the highest for some of the bars.
            let number = |index: i64| (u32::try_from(index).unwrap() + writer) % 6 + 2;
            let bars: Vec<_> = (0..BARS)
                .map(|index| revision(index, f64::from(number(index)), number(index)))
                .collect();
            let (new, changed) = if writer % 2 == 0 { (bars, vec![]) } else { (vec![], bars) };
            let diff = SyncDiff { inserted: new, updated: changed, ..SyncDiff::default() };
            write(&database, &series, &diff).await;
        });
    }
    writers.join_all().await;
    let stored = all(&store.database, &series).await;
    assert_eq!(stored, (0..BARS).map(|index| revision(index, 7.0, 7)).collect::<Vec<_>>());
    let summary = store.database.bars().summary(&series).await.unwrap();
    assert_eq!(summary.bar_count, BARS.unsigned_abs());
}

async fn two_writers_may_insert_the_same_bars(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let bars: Vec<_> = (0..7_000).map(|index| closed(index, 3.0)).collect();
    write(&store.database, &series, &inserted(bars[2_000..3_000].to_vec())).await;
    let diff = inserted(bars.clone());
    let bars_of = || store.database.bars();
    let (first, second) = (bars_of(), bars_of());
    let (one, other) =
        tokio::join!(first.write(&series, &diff, time(0)), second.write(&series, &diff, time(0)),);
    one.unwrap();
    other.unwrap();
    assert_eq!(all(&store.database, &series).await, bars);
    let summary = store.database.bars().summary(&series).await.unwrap();
    assert_eq!(summary.bar_count, 7_000);
}

async fn the_summary_counts_final_bars_only(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let summary = async || store.database.bars().summary(&series).await.unwrap();
    assert_eq!(summary().await, SeriesSummary::default());
    write(&store.database, &series, &inserted([forming(0, 1.0), forming(9, 1.0)])).await;
    let nothing_final = SeriesSummary { has_any: true, ..SeriesSummary::default() };
    assert_eq!(summary().await, nothing_final);
    let unknown = unknown(3, 1.0);
    write(&store.database, &series, &inserted([closed(1, 1.0), unknown, closed(5, 1.0)])).await;
    let three = SeriesSummary {
        bar_count: 3,
        first_bar_at: Some(time(1)),
        last_bar_at: Some(time(5)),
        has_any: true,
    };
    assert_eq!(summary().await, three);
    write(&store.database, &series, &updated([closed(9, 1.0), forming(3, 1.0)])).await;
    let moved = SeriesSummary { last_bar_at: Some(time(9)), ..three };
    assert_eq!(summary().await, moved);
    assert_eq!(store.database.bars().newest(&series).await.unwrap(), Some(closed(9, 1.0)));
}

async fn deleted_bars_are_gone(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let bars = (0..2_500).map(|index| closed(index, 1.0)).chain([forming(2_500, 1.0)]);
    write(&store.database, &series, &inserted(bars)).await;
    let times: Vec<_> = (1..5_000).map(time).collect();
    assert_eq!(store.database.bars().delete(&series, &times).await.unwrap(), 2_500);
    assert_eq!(store.database.bars().delete(&series, &times).await.unwrap(), 0);
    assert_eq!(all(&store.database, &series).await, [closed(0, 1.0)]);
    assert_eq!(store.database.bars().summary(&series).await.unwrap().bar_count, 1);
    store.database.bars().delete(&series, &[time(0)]).await.unwrap();
    assert_eq!(store.database.bars().series().await.unwrap(), []);
}

async fn the_oldest_bars_are_deleted_a_few_at_a_time(store: &Store) {
    let (one, other) = (series("A:B", Interval::M1), series("A:B", Interval::M3));
    let bars: Vec<_> = (0..5).map(|index| closed(index, 5.0)).chain([forming(5, 5.0)]).collect();
    for series in [&one, &other] {
        write(&store.database, series, &inserted(bars.clone())).await;
    }
    let stored = store.database.bars();
    assert_eq!(stored.delete_oldest(&one, 4).await.unwrap(), 4);
    assert_eq!(all(&store.database, &one).await, bars[4..]);
    assert_eq!(stored.summary(&one).await.unwrap().bar_count, 1);
    assert_eq!(stored.delete_oldest(&one, 4).await.unwrap(), 2);
    assert_eq!(stored.delete_oldest(&one, 4).await.unwrap(), 0);
    assert_eq!(stored.summary(&one).await.unwrap(), SeriesSummary::default());
    assert_eq!(all(&store.database, &other).await, bars);
}

async fn a_write_is_finished_when_its_caller_goes_away(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let diff = inserted((0..12_000).map(|index| closed(index, 1.0)));
    let bars = store.database.bars();
    {
        let mut write = Box::pin(bars.write(&series, &diff, time(0)));
        let begun = futures::poll!(&mut write);
        assert!(begun.is_pending(), "12,000 bars are not written at once");
    }
    store.tasks.close();
    store.tasks.wait().await;
    assert_eq!(bars.summary(&series).await.unwrap().bar_count, 12_000);
}

async fn export(
    database: &Database,
    range: (Option<i64>, Option<i64>),
    chunk: u32,
) -> Vec<BarColumns> {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let (start, end) = (range.0.map(time), range.1.map(time));
    let chunks = database.bars().export(&series, start, end, chunk);
    chunks.map(Result::unwrap).collect().await
}

async fn an_export_has_every_final_bar_once_whatever_the_chunk(store: &Store) {
    const BARS: i64 = 120_000;
    let series = series("NASDAQ:AAPL", Interval::M1);
    // Not every minute, and one bar in a thousand still forming.
    let bar = |index: i64| {
        let mut bar =
            if index % 1_000 == 999 { forming(index * 3, 1.0) } else { closed(index * 3, 1.0) };
        if index % 7 == 0 {
            bar.values = Ohlcv::new(1.0, 2.0, 0.5, 1.5, None).unwrap();
        }
        bar
    };
    write(&store.database, &series, &inserted((0..BARS).map(bar))).await;
    let expected: Vec<_> = (0..BARS).map(bar).filter(StoredBar::is_final).collect();
    for chunk in [1_000, 8_192, 16_384, 7, 1_000_000] {
        // Small chunks are tried on a part.
        let last = if chunk < 1_000 { 60_000 } else { BARS * 3 };
        let chunks = export(&store.database, (None, Some(last)), chunk).await;
        let (end, head) = chunks.split_last().unwrap();
        let full = usize::try_from(chunk.min(16_384)).unwrap();
        assert!(head.iter().all(|columns| columns.len() == full) && end.len() <= full);
        let mut bars = expected.iter();
        for columns in &chunks {
            for index in 0..columns.len() {
                let bar = bars.next().unwrap();
                assert_eq!(columns.open_time_ms[index], bar.open_time.as_millisecond());
                let volume = columns.volume[index];
                let values = Ohlcv::new(
                    columns.open[index],
                    columns.high[index],
                    columns.low[index],
                    columns.close[index],
                    (!volume.is_nan()).then_some(volume),
                );
                assert_eq!(values, Ok(bar.values));
                assert_eq!(columns.state[index], BarState::Closed);
            }
        }
        assert!(bars.next().is_none_or(|bar| bar.open_time >= time(last)));
    }
}

async fn an_export_keeps_to_its_range(store: &Store) {
    let series = series("NASDAQ:AAPL", Interval::M1);
    let bars =
        [closed(0, 1.0), closed(1, 1.0), revision(2, 1.0, 4), closed(3, 1.0), forming(4, 1.0)];
    write(&store.database, &series, &inserted(bars)).await;
    let chunks = export(&store.database, (Some(1), Some(3)), 1).await;
    let times: Vec<_> = chunks.iter().flat_map(|columns| &columns.open_time_ms).collect();
    assert_eq!(times, [&time(1).as_millisecond(), &time(2).as_millisecond()]);
    assert_eq!(chunks[1].state, [BarState::Revised]);
    assert_eq!(export(&store.database, (Some(3), None), 5).await[0].len(), 1, "none is forming");
}

async fn the_export_of_nothing_is_empty(store: &Store) {
    assert_eq!(export(&store.database, (None, None), 8_192).await, []);
    let series = series("NASDAQ:AAPL", Interval::M1);
    write(&store.database, &series, &inserted([forming(0, 1.0)])).await;
    assert_eq!(export(&store.database, (None, None), 8_192).await, []);
    let found = store.database.bars().find(&series, &newest(5)).await.unwrap();
    assert_eq!(found, []);
}
