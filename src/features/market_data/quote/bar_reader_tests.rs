//! A reader on its way from the bar log to what happens now.

use prost::Message as _;
use tokio::time::{pause, timeout};

use super::*;
use crate::domain::ohlcv::{BarSource, StoredBar};
use crate::features::market_data::quote::test_bench::{Bench, at, bar, hour, options, symbol};
use crate::infrastructure::persistence::LogBar;
use crate::proto::v1 as pb;

fn query(from: BarsFrom) -> StreamBars {
    let (symbols, intervals) = (vec![symbol()], vec![hour().interval]);
    StreamBars { symbols, intervals, include_forming: false, from }
}

async fn next(stream: &mut BarEventStream) -> BarNews {
    stream.next().await.unwrap().unwrap().news
}

#[tokio::test]
async fn what_was_read_from_the_log_is_not_told_again_when_the_feed_tells_it() {
    let bench = Bench::start().await;
    let service = QuoteService::start_up(bench.parts.clone(), options(), 1).await.unwrap();
    let first = bar(1.0, 1, BarSource::Ticks).stored;
    let second = StoredBar::closed(at(3_600), first.values, BarSource::Ticks);
    let entry = LogBar { series: hour(), bar: first };
    bench.parts.database.bar_log().append(&[entry], Timestamp::now()).await.unwrap();
    let reader = BarReader::start(&service, query(BarsFrom::Time(at(0)))).await.unwrap();
    let mut stream = reader.into_stream();
    assert!(matches!(next(&mut stream).await, BarNews::Feed(_)));
    let BarNews::Bar(_, told) = next(&mut stream).await else { panic!("no bar") };
    assert_eq!(told.stored, first);
    // It is all there is: from here on it waits for the feed.
    pause();
    let quiet = timeout(Duration::from_secs(1), next(&mut stream)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    for (sequence, bar) in [(1, first), (2, second)] {
        service.hub().put_bars([(Some(sequence), LiveChange::Stored(hour(), bar))]);
    }
    let BarNews::Told(event) = next(&mut stream).await else { panic!("not told") };
    let event = pb::BarEvent::decode(event).unwrap();
    let Some(pb::bar_event::Event::Bar(told)) = event.event else { panic!("{event:?}") };
    assert_eq!(told.bar.unwrap().open_time.unwrap().seconds, 3_600);
}

#[tokio::test]
async fn a_reader_of_the_log_learns_of_gaps_that_the_log_does_not_know() {
    let bench = Bench::start().await;
    let first = bar(1.0, 1, BarSource::Ticks).stored;
    let second = StoredBar::closed(at(3_600), first.values, BarSource::Ticks);
    let third = StoredBar::closed(at(7_200), first.values, BarSource::Ticks);
    let log = async |bar| {
        let entry = LogBar { series: hour(), bar };
        bench.parts.database.bar_log().append(&[entry], Timestamp::now()).await.unwrap();
    };
    let gap = |second| (None, LiveChange::Gap(symbol(), at(second), at(second + 1)));
    log(first).await;
    log(second).await;
    // What an earlier run has logged is not in the ring; the gap since then is.
    let service = QuoteService::start_up(bench.parts.clone(), options(), 1).await.unwrap();
    service.hub().put_bars([gap(10)]);
    let from = BarsFrom::Cursor(BarCursor(Cursor::at(1)));
    let mut stream = BarReader::start(&service, query(from)).await.unwrap().into_stream();
    assert!(matches!(next(&mut stream).await, BarNews::Feed(_)));
    let BarNews::Gap(_, start, _) = next(&mut stream).await else { panic!("no gap") };
    assert_eq!(start, at(10));
    // Another one, while it reads the log.
    log(third).await;
    service.hub().put_bars([gap(20), (Some(3), LiveChange::Stored(hour(), third))]);
    for open in [3_600, 7_200] {
        let BarNews::Bar(_, told) = next(&mut stream).await else { panic!("no bar") };
        assert_eq!(told.stored.open_time, at(open));
    }
    let BarNews::Gap(_, start, _) = next(&mut stream).await else { panic!("no gap") };
    assert_eq!(start, at(20));
}
