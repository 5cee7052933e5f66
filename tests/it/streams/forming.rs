//! The newest there is: forming bars among the stored ones, and quotes.

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::{BarOrder, BarState, Interval};
use pocketquant::simulator::Pace;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::market::{
    PATIENCE, TRADED, bars_of, next, next_bar, quotes, replay, seen, subscribe, trades,
};
use crate::engines::{Engine, on_every_engine};
use crate::support::{TestApp, reason};

on_every_engine!(
    forming_bars_of_the_feed_are_among_the_stored_ones_and_pages_stay_exact,
    a_page_that_was_kept_is_forgotten_when_a_bar_closes,
    the_newest_quote_is_found_in_the_cache_when_nobody_follows_the_symbol_any_more,
);

const CLOCK: (&str, &str) = ("FEED_CLOCK", "event");
const MINUTES: i64 = 40;

/// A service that has seen all trades and is still subscribed.
async fn at_the_end(engine: Engine) -> (TestApp, crate::support::TestSimulator) {
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Max).await;
    let app = TestApp::on(engine, &simulator, &[CLOCK]).await;
    let minutes = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut stream = quotes(&app).stream_bars(minutes).await.unwrap().into_inner();
    subscribe(&app).await;
    while next_bar(&mut stream).await.0.minute < MINUTES - 1 {}
    (app, simulator)
}

async fn current(app: &TestApp, interval: Interval) -> pb::Bar {
    let request = pb::GetCurrentBarRequest { symbol: TRADED.to_owned(), interval: interval.into() };
    quotes(app).get_current_bar(request).await.unwrap().into_inner()
}

async fn forming_bars_of_the_feed_are_among_the_stored_ones_and_pages_stay_exact(engine: Engine) {
    let (mut app, _simulator) = at_the_end(engine).await;
    for interval in [Interval::Interval1h, Interval::Interval1d, Interval::Interval1w] {
        let current = current(&app, interval).await;
        assert_eq!(current.state(), BarState::Forming);
        for _ in 0..2 {
            let page = app.bars(TRADED, interval, |page| page.include_forming = true).await;
            assert_eq!(page.unwrap().bars, [current], "{interval:?}");
        }
    }
    // 0:00 and 0:15 have closed; 0:30 forms.
    let quarters = Interval::Interval15m;
    let whole = app.bars(TRADED, quarters, |page| page.include_forming = true).await.unwrap().bars;
    assert_eq!(whole.len(), 3);
    assert_eq!(whole[0], current(&app, quarters).await);
    for order in [BarOrder::NewestFirst, BarOrder::OldestFirst] {
        let (mut paged, mut token) = (Vec::new(), String::new());
        loop {
            let page = app
                .bars(TRADED, quarters, |page| {
                    page.include_forming = true;
                    (page.limit, page.page_token) = (Some(1), token.clone());
                    page.set_order(order);
                })
                .await
                .unwrap();
            assert_eq!(page.bars.len(), 1);
            paged.extend(page.bars);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        if order == BarOrder::OldestFirst {
            paged.reverse();
        }
        assert_eq!(paged, whole, "{order:?}");
    }
    let closed = app.bars(TRADED, quarters, |_| {}).await.unwrap().bars;
    assert_eq!(closed, whole[1..]);

    // The feed stops: what was forming is kept.
    let hour = current(&app, Interval::Interval1h).await;
    quotes(&app).stop_feed(pb::StopFeedRequest {}).await.unwrap();
    let hours = app.bars(TRADED, Interval::Interval1h, |page| page.include_forming = true).await;
    assert_eq!(hours.unwrap().bars, [hour]);
}

async fn a_page_that_was_kept_is_forgotten_when_a_bar_closes(engine: Engine) {
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Rate(100.0)).await;
    let mut app = TestApp::on(engine, &simulator, &[CLOCK]).await;
    let minutes = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut stream = quotes(&app).stream_bars(minutes).await.unwrap().into_inner();
    for _ in 0..10 {
        let (told, _) = next_bar(&mut stream).await;
        let page = app.bars(TRADED, Interval::Interval1m, |page| page.limit = Some(1)).await;
        let (symbol, interval) = (TRADED.to_owned(), Interval::Interval1m.into());
        let newest = pb::SeriesBar { symbol, interval, bar: page.unwrap().bars.pop() };
        assert!(seen(&newest).minute >= told.minute, "{newest:?} after {told:?}");
    }
}

async fn the_newest_quote_is_found_in_the_cache_when_nobody_follows_the_symbol_any_more(
    engine: Engine,
) {
    let (app, _simulator) = at_the_end(engine).await;
    let latest = || async {
        let request = pb::GetLatestQuoteRequest { symbol: TRADED.to_owned() };
        quotes(&app).get_latest_quote(request).await.map(tonic::Response::into_inner)
    };
    // Forming bars are told when they are copied, and quotes with them.
    let mut request = bars_of(&[TRADED], &[Interval::Interval1h]);
    request.include_forming = true;
    let mut copied = quotes(&app).stream_bars(request).await.unwrap().into_inner();
    while !matches!(next(&mut copied).await.event, Some(Event::Bar(_))) {}
    drop(copied);
    let known = latest().await.unwrap();
    assert_eq!(known.delay, None, "the provider says that it is not late");
    let unsubscribe = pb::UnsubscribeRequest { symbol: TRADED.to_owned() };
    quotes(&app).unsubscribe(unsubscribe).await.unwrap();
    let cached = async {
        loop {
            match latest().await {
                Ok(quote) => return quote,
                Err(status) => assert_eq!(reason(&status).1, "NOT_SUBSCRIBED"),
            }
            sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let cached = timeout(PATIENCE, cached).await.unwrap();
    assert_eq!((cached.symbol.as_str(), cached.epoch), (TRADED, known.epoch));
    assert!(cached.last_price > 100.0 && cached.time.is_some(), "{cached:?}");
    // Who comes back goes on behind it.
    let request =
        pb::StreamQuotesRequest { symbols: vec![TRADED.to_owned()], ..Default::default() };
    let mut stream = quotes(&app).stream_quotes(request).await.unwrap().into_inner();
    let again = loop {
        let event = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        if let Some(pb::quote_event::Event::Quote(quote)) = event.event {
            break quote;
        }
    };
    assert_eq!(again.epoch, cached.epoch);
    assert!(again.sequence > cached.sequence, "{again:?} after {cached:?}");
    let request = pb::GetLatestQuoteRequest { symbol: "TEST:NOBODY".to_owned() };
    let status = quotes(&app).get_latest_quote(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "NOT_SUBSCRIBED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bar_is_not_told_as_forming_after_it_was_told_as_closed() {
    let folder = trades(400);
    let simulator = replay(&folder, Pace::Rate(100.0)).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let mut request = bars_of(&[TRADED], &[Interval::Interval1m]);
    request.include_forming = true;
    let mut stream = quotes(&app).stream_bars(request.clone()).await.unwrap().into_inner();
    subscribe(&app).await;
    let (mut closed, mut forming) = (-1, 0);
    while closed < 20 {
        let event = next(&mut stream).await;
        assert!(!event.cursor.is_empty());
        if let Some(Event::Bar(bar)) = event.event {
            let bar = seen(&bar);
            if bar.revision > 0 {
                closed = bar.minute;
                // Who comes now finds nothing older either.
                let new = quotes(&app).stream_bars(request.clone()).await.unwrap();
                let mut new = new.into_inner();
                loop {
                    if let Some(Event::Bar(bar)) = next(&mut new).await.event {
                        assert!(seen(&bar).minute > closed, "{bar:?} after {closed}");
                        break;
                    }
                }
            } else {
                assert!(bar.minute > closed, "{bar:?} after {closed}");
                forming += 1;
            }
        }
    }
    assert!(forming > 0);
}
