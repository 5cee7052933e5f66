//! Streams of bars that are cut and go on where they were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pocketquant::features::market_data::quote::StreamPace;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::simulator::Pace;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::market::{
    PATIENCE, QUIET, Seen, TRADED, bars_of, narrow, next, next_bar, quotes, replay, resumed, seen,
    since, stored, subscribe, trades,
};
use crate::engines::{Engine, on_every_engine};
use crate::servers::Server;
use crate::support::{TestApp, fact, reason};

on_every_engine!(
    a_reader_that_is_cut_at_random_misses_nothing_and_sees_revisions_in_order,
    stored_bars_are_resumed_in_their_midst_and_go_over_to_live_without_a_hole,
    a_cursor_from_before_what_is_kept_has_expired_and_names_the_earliest,
);

const MINUTES: i64 = 180;
const CLOCK: (&str, &str) = ("FEED_CLOCK", "event");

/// What a reader was told, over all its connections.
#[derive(Default)]
struct Told {
    all: BTreeSet<Seen>,
    newest: BTreeMap<(i32, i64), i32>,
}

impl Told {
    /// A bar may come twice, as it may have been on its way; an older revision never comes.
    fn take(&mut self, bar: Seen, seed: u64) {
        let newest = self.newest.entry((bar.interval, bar.minute)).or_default();
        assert!(bar.revision >= *newest, "{bar:?} after revision {newest}; seed {seed}");
        *newest = bar.revision;
        self.all.insert(bar);
    }

    fn misses(&self, stored: &[Seen]) -> Vec<Seen> {
        stored.iter().filter(|bar| !self.all.contains(bar)).copied().collect()
    }
}

/// Reads `request`, cut at random, until all that is stored was told; `ended` says whether the
/// market has closed its last minute.
async fn read_in_pieces(app: &mut TestApp, request: pb::StreamBarsRequest, seed: u64) -> Told {
    let (mut random, mut told) = (SmallRng::seed_from_u64(seed), Told::default());
    let mut next_request = request.clone();
    let mut client = quotes(app);
    loop {
        let mut stream = client.stream_bars(next_request).await.unwrap().into_inner();
        let (mut cursor, mut closed) = (next(&mut stream).await.cursor, false);
        for _ in 0..random.random_range(0..150) {
            let (bar, behind) = next_bar(&mut stream).await;
            told.take(bar, seed);
            cursor = behind;
            if (bar.interval, bar.minute) == (Interval::Interval1m.into(), MINUTES - 1) {
                closed = true;
                break;
            }
        }
        next_request = resumed(request.clone(), &cursor);
        if closed {
            break;
        }
    }
    // Bars that closed with the last minute.
    let stored = stored(app).await;
    let mut stream = client.stream_bars(next_request).await.unwrap().into_inner();
    while !told.misses(&stored).is_empty() {
        let event = timeout(PATIENCE, next_bar(&mut stream)).await;
        let (bar, _) = event.unwrap_or_else(|_| panic!("{:?}; seed {seed}", told.misses(&stored)));
        told.take(bar, seed);
    }
    told
}

async fn a_reader_that_is_cut_at_random_misses_nothing_and_sees_revisions_in_order(engine: Engine) {
    let seed = rand::random();
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Rate(300.0)).await;
    // Every tenth trade comes a minute late, and corrects bars that were closed.
    simulator.fault("late", None, None, true).await;
    let mut app = TestApp::on(engine, &simulator, &[CLOCK]).await;
    let request = bars_of(&[TRADED], &[]);
    let first = quotes(&app).stream_bars(request.clone()).await.unwrap().into_inner();
    subscribe(&app).await;
    let mut first = first;
    let start = resumed(request, &next(&mut first).await.cursor);
    let told = read_in_pieces(&mut app, start, seed).await;
    let revised = told.all.iter().filter(|bar| bar.revision > 1).count();
    assert!(revised > 10, "{revised} revisions; seed {seed}");
    // From the first on, each revision was told.
    for bar in &told.all {
        let before = Seen { revision: bar.revision - 1, ..*bar };
        assert!(bar.revision == 1 || told.all.contains(&before), "{before:?}; seed {seed}");
    }
}

async fn stored_bars_are_resumed_in_their_midst_and_go_over_to_live_without_a_hole(engine: Engine) {
    let seed = rand::random();
    let folder = trades(MINUTES);
    let simulator = replay(&folder, Pace::Rate(300.0)).await;
    simulator.fault("late", None, None, true).await;
    let mut app = TestApp::on(engine, &simulator, &[CLOCK]).await;
    let mut live = quotes(&app).stream_bars(bars_of(&[TRADED], &[])).await.unwrap().into_inner();
    subscribe(&app).await;
    while next_bar(&mut live).await.0.minute < 30 {}
    drop(live);
    let told = read_in_pieces(&mut app, since(bars_of(&[TRADED], &[]), -20_000), seed).await;
    assert!(told.all.iter().any(|bar| bar.minute == 0), "stored bars come too");

    // A time in the midst: what opened before it is not sent.
    let mut later = quotes(&app)
        .stream_bars(since(bars_of(&[TRADED], &[Interval::Interval1m]), 100))
        .await
        .unwrap()
        .into_inner();
    for minute in 100..MINUTES {
        assert_eq!(next_bar(&mut later).await.0.minute, minute);
    }
}

async fn a_cursor_from_before_what_is_kept_has_expired_and_names_the_earliest(engine: Engine) {
    let folder = trades(20);
    let simulator = replay(&folder, Pace::Max).await;
    let settings = [CLOCK, ("BAR_LOG_RETENTION", "1s")];
    let app = TestApp::on(engine, &simulator, &settings).await;
    let request = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut stream = quotes(&app).stream_bars(request.clone()).await.unwrap().into_inner();
    let first = next(&mut stream).await.cursor;
    subscribe(&app).await;
    while next_bar(&mut stream).await.0.minute < 19 {}
    let expired = async {
        loop {
            let retention = pb::RunJobRequest { job_id: "retention".to_owned() };
            app.system.clone().run_job(retention).await.unwrap();
            match quotes(&app).stream_bars(resumed(request.clone(), &first)).await {
                Ok(_) => sleep(Duration::from_millis(20)).await,
                Err(status) => return status,
            }
        }
    };
    let status = timeout(PATIENCE, expired).await.unwrap();
    assert_eq!(reason(&status), (Code::OutOfRange, "CURSOR_EXPIRED".to_owned()));
    let earliest = fact(&status, "earliest_cursor").unwrap();
    let again = quotes(&app).stream_bars(resumed(request, &earliest)).await.unwrap();
    assert!(!next(&mut again.into_inner()).await.cursor.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_reader_that_catches_up_waits_for_a_database_that_is_away() {
    let minutes = 1_200;
    let folder = trades(minutes);
    let simulator = replay(&folder, Pace::Max).await;
    let mut mongodb = Server::mongodb().await;
    let (url, pace) = (mongodb.url(), Duration::from_millis(50));
    let pace = StreamPace { heartbeat: pace, ..StreamPace::default() };
    let settings = [CLOCK, ("MONGODB_URL", url.as_str())];
    let app = TestApp::paced(Engine::Embedded, &simulator, &settings, pace).await;
    let mut live = quotes(&app).stream_bars(bars_of(&[TRADED], &[])).await.unwrap().into_inner();
    let first = resumed(bars_of(&[TRADED], &[]), &next(&mut live).await.cursor);
    subscribe(&app).await;
    while next_bar(&mut live).await.0.minute < minutes - 1 {}
    drop(live);
    // So that all there is of it is in the log.
    let mut app = app.restarted(&simulator).await;
    let bars = stored(&mut app).await;

    // It takes little at a time, so that most is still to be read.
    let stream = narrow(&app).await.stream_bars(first).await.unwrap();
    let (mut stream, mut told) = (stream.into_inner(), Told::default());
    told.take(next_bar(&mut stream).await.0, 0);
    mongodb.crash();
    loop {
        let event = next(&mut stream).await.event;
        if let Some(Event::Bar(bar)) = &event {
            told.take(seen(bar), 0);
        } else if let Some(Event::Heartbeat(_)) = event {
            break;
        }
    }
    assert!(!told.misses(&bars).is_empty(), "it had all before");
    mongodb.restart().await;
    while !told.misses(&bars).is_empty() {
        told.take(next_bar(&mut stream).await.0, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_none_of_ours_is_the_callers_mistake() {
    let folder = trades(20);
    let simulator = replay(&folder, Pace::Max).await;
    let mut app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let minutes = bars_of(&[TRADED], &[Interval::Interval1m]);
    let mut live = quotes(&app).stream_bars(minutes.clone()).await.unwrap().into_inner();
    while next_bar(&mut live).await.0.minute < 19 {}
    let bars = stored(&mut app).await;
    assert!(!bars.is_empty());

    let mut stream =
        quotes(&app).stream_bars(since(minutes.clone(), 0)).await.unwrap().into_inner();
    let (_, cursor) = next_bar(&mut stream).await;
    let others = [
        resumed(minutes.clone(), "garbage"),
        resumed(minutes.clone(), &format!("{cursor}A")),
        resumed(bars_of(&[TRADED], &[Interval::Interval3m]), &cursor),
        resumed(bars_of(&[TRADED, QUIET], &[Interval::Interval1m]), &cursor),
    ];
    for request in others {
        let status = quotes(&app).stream_bars(request).await.unwrap_err();
        assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
        assert!(status.message().contains("resume_cursor"), "{status:?}");
    }
    let same = quotes(&app).stream_bars(resumed(minutes, &cursor)).await.unwrap();
    assert_eq!(next_bar(&mut same.into_inner()).await.0.minute, 1);

    // A cursor of a database that has logged more.
    let behind = trades(1);
    let simulator = replay(&behind, Pace::Max).await;
    let empty = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let (_, ahead) = next_bar(&mut {
        let from_log = pb::StreamBarsRequest::clone(&bars_of(&[TRADED], &[]));
        quotes(&app).stream_bars(since(from_log, 18)).await.unwrap().into_inner()
    })
    .await;
    let request = resumed(bars_of(&[TRADED], &[]), &ahead);
    let status = quotes(&empty).stream_bars(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    assert!(status.message().contains("another database"), "{status:?}");
}
