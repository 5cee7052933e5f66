//! What streams say besides bars.

use std::time::Duration;

use pocketquant::features::market_data::quote::StreamPace;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::{ConnectionState, Interval};
use pocketquant::simulator::Pace;
use tonic::Code;

use super::market::{
    SILENT, TRADED, bars_of, next, next_bar, open_of, quotes, replay, resumed, seen, trades,
};
use crate::engines::Engine;
use crate::support::{TestApp, reason};

const CLOCK: (&str, &str) = ("FEED_CLOCK", "event");
const MINUTES: i64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_interval_follows_its_bar_and_comes_alone_where_nothing_was_traded() {
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Max).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let request = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut stream = quotes(&app).stream_bars(request.clone()).await.unwrap().into_inner();
    let first = next(&mut stream).await;
    assert!(matches!(first.event, Some(Event::Feed(_))), "{first:?}");
    // Minutes whose bars came, and whether each has closed.
    let (mut bars, mut ends) = (Vec::new(), Vec::new());
    let mut middle = String::new();
    while ends.len() < usize::try_from(MINUTES).unwrap() {
        let event = next(&mut stream).await;
        match event.event.unwrap() {
            Event::Bar(bar) => {
                let bar = seen(&bar);
                assert_eq!(bar.minute, i64::try_from(ends.len()).unwrap(), "before its end");
                bars.push(bar.minute);
                if bar.minute == 20 {
                    middle = event.cursor;
                }
            }
            Event::IntervalClosed(end) => {
                assert_eq!((end.symbol.as_str(), end.interval()), (TRADED, Interval::Interval1m));
                let minute = i64::try_from(ends.len()).unwrap();
                assert_eq!(end.close_time.unwrap().seconds, open_of(minute + 1).as_second());
                ends.push(minute);
            }
            Event::Feed(_) | Event::Heartbeat(_) => {}
            other @ (Event::Gap(_) | Event::SymbolError(_) | Event::Draining(_)) => {
                panic!("{other:?}")
            }
        }
    }
    let traded: Vec<i64> = (0..MINUTES).filter(|minute| !SILENT.contains(minute)).collect();
    assert_eq!(bars, traded);

    // Behind a bar, its end is still to come.
    let again = quotes(&app).stream_bars(resumed(request, &middle)).await.unwrap();
    let mut again = again.into_inner();
    assert!(matches!(next(&mut again).await.event, Some(Event::Feed(_))));
    let Some(Event::IntervalClosed(end)) = next(&mut again).await.event else { panic!("no end") };
    assert_eq!(end.close_time.unwrap().seconds, open_of(21).as_second());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_told_with_the_time_in_which_the_feed_was_away() {
    let folder = trades(1_000);
    let simulator = replay(&folder, Pace::Rate(200.0)).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let request = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut stream = quotes(&app).stream_bars(request).await.unwrap().into_inner();
    let (mut connected, mut traded) = (false, false);
    while !(connected && traded) {
        let event = next(&mut stream).await.event.unwrap();
        traded |= matches!(event, Event::Bar(_));
        if let Event::Feed(feed) = event {
            connected |= feed.state() == ConnectionState::Connected;
        }
    }
    simulator.fault("cut", None, None, true).await;
    let mut states = Vec::new();
    let gap = loop {
        match next(&mut stream).await.event.unwrap() {
            Event::Feed(feed) if feed.state() == ConnectionState::Reconnecting => {
                assert!(!feed.error.is_empty());
                simulator.fault("cut", None, None, false).await;
                states.push(feed.state());
            }
            Event::Feed(feed) => states.push(feed.state()),
            Event::Gap(gap) => break gap,
            Event::Bar(_) | Event::IntervalClosed(_) | Event::Heartbeat(_) => {}
            other @ (Event::SymbolError(_) | Event::Draining(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(states.first(), Some(&ConnectionState::Reconnecting));
    assert_eq!(gap.symbol, TRADED);
    let [from, to] = [gap.start_time, gap.end_time].map(|time| time.unwrap());
    assert!((from.seconds, from.nanos) <= (to.seconds, to.nanos), "{gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_feed_says_so_and_the_stream_waits_and_lives() {
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Max).await;
    let pace = StreamPace { heartbeat: Duration::from_millis(20), ..StreamPace::default() };
    let settings = [CLOCK, ("FEED_AUTOSTART", "false")];
    let app = TestApp::paced(Engine::Embedded, &simulator, &settings, pace).await;
    let request = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut stream = quotes(&app).stream_bars(request).await.unwrap().into_inner();
    let Some(Event::Feed(feed)) = next(&mut stream).await.event else { panic!("no feed") };
    assert_eq!(feed.state(), ConnectionState::Stopped);
    for _ in 0..2 {
        let event = next(&mut stream).await;
        assert!(matches!(event.event, Some(Event::Heartbeat(_))), "{event:?}");
        assert!(!event.cursor.is_empty());
    }
    quotes(&app).start_feed(pb::StartFeedRequest {}).await.unwrap();
    while !matches!(next(&mut stream).await.event, Some(Event::Bar(_))) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_says_so_last_and_the_cursor_goes_on_with_the_next_start() {
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Max).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let request = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut stream = quotes(&app).stream_bars(request.clone()).await.unwrap().into_inner();
    while next_bar(&mut stream).await.0.minute < MINUTES - 1 {}
    let app = app.restarted(&simulator).await;
    let (mut last, mut cursor) = (None, String::new());
    let status = loop {
        match stream.message().await {
            Ok(Some(event)) => (last, cursor) = (event.event, event.cursor),
            Ok(None) => panic!("it ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
    let Some(Event::Draining(draining)) = last else { panic!("{last:?}") };
    assert!(draining.resume_after.is_some());
    let again = quotes(&app).stream_bars(resumed(request, &cursor)).await.unwrap();
    assert!(matches!(next(&mut again.into_inner()).await.event, Some(Event::Feed(_))));
}
