//! Readers that read nothing, or little.

use std::collections::BTreeSet;
use std::time::Duration;

use pocketquant::features::market_data::quote::StreamPace;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::simulator::Pace;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use super::market::{
    PATIENCE, QUIET, TRADED, bars_of, narrow, next_bar, quotes, replay, resumed, seen, stored,
    subscribe, trades,
};
use crate::engines::{Engine, on_every_engine};
use crate::support::{TestApp, fact, reason};

on_every_engine!(a_reader_that_reads_nothing_is_ended_and_its_cursor_loses_nothing);

/// Patient enough for this machine, and not for a test.
const PACE: StreamPace =
    StreamPace { heartbeat: Duration::from_secs(15), slow_after: Duration::from_secs(4) };
const MINUTES: i64 = 400;

/// Waits until nobody follows more than `symbols`.
async fn until_followed(app: &TestApp, symbols: i32) {
    let let_go = async {
        loop {
            let status = quotes(app).get_feed_status(pb::GetFeedStatusRequest {}).await.unwrap();
            if status.into_inner().active_symbols == symbols {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, let_go).await.unwrap();
}

/// What is left in a stream, and how it ends.
async fn rest<T>(stream: &mut Streaming<T>) -> (Vec<T>, Status) {
    let mut events = Vec::new();
    loop {
        match timeout(PATIENCE, stream.message()).await.unwrap() {
            Ok(Some(event)) => events.push(event),
            Ok(None) => panic!("it ended without a status"),
            Err(status) => return (events, status),
        }
    }
}

async fn a_reader_that_reads_nothing_is_ended_and_its_cursor_loses_nothing(engine: Engine) {
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Rate(2_000.0)).await;
    let mut app = TestApp::paced(engine, &simulator, &[("FEED_CLOCK", "event")], PACE).await;
    // It alone follows the quiet symbol: that tells when it was let go.
    let request = bars_of(&[TRADED, QUIET], &[]);
    let stalled = narrow(&app).await.stream_bars(request.clone()).await.unwrap();
    subscribe(&app).await;
    until_followed(&app, 2).await;
    until_followed(&app, 1).await;

    let (events, status) = rest(&mut stalled.into_inner()).await;
    assert_eq!(reason(&status), (Code::ResourceExhausted, "SLOW_CONSUMER".to_owned()));
    let cursor = fact(&status, "cursor").unwrap();
    assert_eq!(Some(&cursor), events.last().map(|event| &event.cursor));
    let mut told = BTreeSet::new();
    for event in events {
        if let Some(Event::Bar(bar)) = event.event
            && bar.symbol == TRADED
        {
            told.insert(seen(&bar));
        }
    }
    let again = quotes(&app).stream_bars(resumed(request, &cursor)).await.unwrap();
    let mut again = again.into_inner();
    let last = MINUTES - 1;
    loop {
        let (bar, _) = next_bar(&mut again).await;
        assert!(told.insert(bar), "{bar:?} comes twice");
        if (bar.interval, bar.minute) == (pb::Interval::Interval1m.into(), last) {
            break;
        }
    }
    let missing =
        |stored: &[super::market::Seen]| stored.iter().find(|bar| !told.contains(bar)).copied();
    let stored = stored(&mut app).await;
    // Longer bars that close with the last minute come after it.
    let all = stored.iter().filter(|bar| bar.minute < last - 240).copied().collect::<Vec<_>>();
    assert!(all.len() > 100);
    assert_eq!(missing(&all), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_quotes_that_reads_nothing_is_ended_and_others_go_on() {
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Rate(500.0)).await;
    let app = TestApp::paced(Engine::Embedded, &simulator, &[("FEED_CLOCK", "event")], PACE).await;
    let request = |symbols: &[&str]| pb::StreamQuotesRequest {
        symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        ..Default::default()
    };
    let other = quotes(&app).stream_quotes(request(&[TRADED])).await.unwrap();
    let mut other = other.into_inner();
    let stalled = narrow(&app).await.stream_quotes(request(&[TRADED, QUIET])).await.unwrap();
    until_followed(&app, 2).await;
    let mut heard = 0;
    let reads = async {
        while let Ok(Some(_)) = other.message().await {
            heard += 1;
        }
    };
    tokio::select! {
        () = reads => panic!("the other one was ended too"),
        () = until_followed(&app, 1) => {}
    }
    assert!(heard > 100, "{heard}");
    let (_, status) = rest(&mut stalled.into_inner()).await;
    assert_eq!(reason(&status), (Code::ResourceExhausted, "SLOW_CONSUMER".to_owned()));
    assert_eq!(fact(&status, "cursor"), None);
}
