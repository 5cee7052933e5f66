//! A reader on its way from the bar log to what happens now.

use prost::Message as _;
use tokio::time::{pause, timeout};

use super::*;
use crate::domain::ohlcv::{BarSource, StoredBar};
use crate::features::market_data::quote::test_bench::{Bench, at, bar, hour, options, symbol};
use crate::infrastructure::persistence::LogBar;
use crate::proto::v1 as pb;

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
    let query = StreamBars {
        symbols: vec![symbol()],
        intervals: vec![hour().interval],
        include_forming: false,
        from: BarsFrom::Time(at(0)),
    };
    let mut stream = BarReader::start(&service, query).await.unwrap().into_stream();
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
