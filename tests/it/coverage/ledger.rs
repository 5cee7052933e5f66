//! The ledger by itself: what is told of outages, how seldom it is written, what a restart knows.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pocketquant::domain::coverage::{CoverageFacts, RangeSet, TimeRange};
use pocketquant::domain::shared::{EventPayload, Interval, Series, Symbol};
use pocketquant::domain::symbol::{SessionSpec, SymbolAggregate, SymbolDescription};
use pocketquant::features::market_data::{Announcer, CoverageLedger, Sessions};
use pocketquant::infrastructure::persistence::CoverageRecord;
use tokio_util::sync::CancellationToken;

use crate::database::{Store, on_both_engines};

on_both_engines!(
    an_outage_while_the_market_is_open_is_told_once,
    what_was_answered_is_merged_and_forgotten_with_its_symbol,
    a_symbol_that_was_let_go_is_not_missed,
    what_is_known_and_what_is_untold_have_bounds,
);

fn at(text: &str) -> Timestamp {
    format!("{text}:00Z").parse().unwrap()
}

fn range(open: &str, close: &str) -> TimeRange {
    TimeRange::new(at(open), at(close)).unwrap()
}

fn ibm() -> Symbol {
    Symbol::parse("NYSE:IBM").unwrap()
}

fn series() -> Series {
    Series::new(ibm(), Interval::M1)
}

/// A ledger on `store` that runs, as after a start with `subscribed` symbols.
struct Running {
    ledger: CoverageLedger,
    announcer: Announcer,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(store: &Store, is_subscribed: bool) -> Self {
        let database = store.database.clone();
        let (announcer, _untold) = Announcer::new(database.clone());
        let description = SymbolDescription {
            session: Some(SessionSpec {
                timezone: "America/New_York".to_owned(),
                session: "0930-1600".to_owned(),
                ..SessionSpec::default()
            }),
            ..SymbolDescription::default()
        };
        let symbol = SymbolAggregate::new(&ibm(), None, Timestamp::UNIX_EPOCH);
        let (info, _) = symbol.observe(&description, Timestamp::UNIX_EPOCH);
        database.symbols().put(&info).await.unwrap();
        let sessions = Sessions::new(database.clone());
        let ledger = CoverageLedger::new(database, sessions, announcer.clone());
        ledger.recover(|_| is_subscribed).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(ledger.clone().run(stop.clone()));
        Self { ledger, announcer, stop, task }
    }

    async fn facts(&self) -> CoverageFacts {
        self.ledger.facts(&series(), at("2024-01-10T12:00")).await.unwrap()
    }

    fn heard(&self, time: &str) {
        self.ledger.heard([(&ibm(), at(time))]);
    }

    /// Stops it; what it knows is written down.
    async fn stop(self) -> Vec<EventPayload> {
        self.ledger.settle().await.unwrap();
        self.stop.cancel();
        tokio::time::timeout(Duration::from_mins(1), self.task).await.unwrap().unwrap();
        self.announcer.newest(100).iter().rev().map(|told| told.event.payload.clone()).collect()
    }
}

async fn an_outage_while_the_market_is_open_is_told_once(store: &Store) {
    let running = Running::start(store, true).await;
    running.heard("2024-01-09T20:00");
    running.heard("2024-01-09T20:30");
    running.ledger.cut(&ibm());
    running.heard("2024-01-09T20:45");
    running.heard("2024-01-09T21:15");
    running.ledger.cut(&ibm());
    // A night: nothing was missed.
    running.heard("2024-01-10T01:00");
    let facts = running.facts().await;
    let outages = [
        range("2024-01-09T20:30", "2024-01-09T20:45"),
        range("2024-01-09T21:15", "2024-01-10T01:00"),
    ];
    assert_eq!(facts.down.ranges(), outages);
    assert_eq!(
        facts.connected.ranges(),
        [
            range("2024-01-09T20:00", "2024-01-09T20:30"),
            range("2024-01-09T20:45", "2024-01-09T21:15")
        ]
    );
    running.ledger.cut(&ibm());
    let told = running.stop().await;
    let (start, end) = (at("2024-01-09T20:30"), at("2024-01-09T20:45"));
    assert_eq!(told, [EventPayload::GapDetected { symbol: ibm(), start, end }]);

    // A start knows what was written down, and tells it no more. From the last word on, all was
    // missed.
    let running = Running::start(store, true).await;
    let facts = running.facts().await;
    let away = range("2024-01-09T21:15", "2024-01-10T12:00");
    assert_eq!(facts.down.ranges(), [outages[0], away]);
    running.heard("2024-01-10T15:00");
    let told = running.stop().await;
    let (start, end) = (at("2024-01-10T01:00"), at("2024-01-10T15:00"));
    assert_eq!(told, [EventPayload::GapDetected { symbol: ibm(), start, end }]);
}

async fn what_was_answered_is_merged_and_forgotten_with_its_symbol(store: &Store) {
    let running = Running::start(store, true).await;
    let (morning, noon) = (
        range("2024-01-09T10:00", "2024-01-09T12:00"),
        range("2024-01-09T12:00", "2024-01-09T13:00"),
    );
    let (one, other) = (running.ledger.clone(), running.ledger.clone());
    let series = series();
    let (first, second) =
        tokio::join!(one.answered(&series, noon), other.answered(&series, morning));
    first.and(second).unwrap();
    running.heard("2024-01-09T20:00");
    running.heard("2024-01-09T20:30");
    assert_eq!(
        running.facts().await.asked.ranges(),
        [range("2024-01-09T10:00", "2024-01-09T13:00")]
    );
    let other_interval = Series::new(ibm(), Interval::H1);
    let facts = running.ledger.facts(&other_interval, at("2024-01-10T12:00")).await.unwrap();
    assert!(facts.asked.is_empty() && !facts.connected.is_empty());
    running.ledger.forget(&ibm()).await.unwrap();
    assert_eq!(running.facts().await, CoverageFacts::default());
    running.stop().await;
}

async fn what_is_known_and_what_is_untold_have_bounds(store: &Store) {
    let running = Running::start(store, true).await;
    let minute = |index: i64| at("2024-01-09T15:00") + SignedDuration::from_mins(index);
    let minutes = |open| TimeRange::new(minute(open), minute(open + 1)).unwrap();
    // Every second minute, as many as a set has at most.
    let most = i64::try_from(RangeSet::MOST).unwrap();
    let asked: RangeSet = (0..most).map(|index| minutes(2 * index)).collect();
    let asked = CoverageRecord::Asked { series: series(), asked };
    store.database.coverage().put(&[asked]).await.unwrap();
    running.ledger.answered(&series(), minutes(2 * most)).await.unwrap();
    let asked = running.facts().await.asked;
    let (first, last) = (asked.ranges().first(), asked.ranges().last());
    assert_eq!(
        (first, last),
        (Some(&minutes(2)), Some(&minutes(2 * most))),
        "the oldest is given up"
    );

    // Nobody writes anything down any more, so all that is told waits.
    let Running { ledger, announcer, stop, task } = running;
    stop.cancel();
    task.await.unwrap();
    for index in 0..100 {
        ledger.heard([(&ibm(), minute(index))]);
        ledger.cut(&ibm());
    }
    ledger.settle().await.unwrap();
    assert_eq!(announcer.newest(1_000).len(), 64);
}

/// Its file is locked by another program for a while.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_written_is_written_and_told_later() {
    let store = Store::sqlite().await;
    let Running { ledger, announcer, stop, task } = Running::start(&store, true).await;
    stop.cancel();
    task.await.unwrap();
    ledger.heard([(&ibm(), at("2024-01-09T15:00")), (&ibm(), at("2024-01-09T15:30"))]);
    ledger.cut(&ibm());
    ledger.heard([(&ibm(), at("2024-01-09T15:45"))]);
    let file = store.folder.as_ref().unwrap().path().join("pocketquant.db");
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(ledger.settle().await.is_err());
    assert!(announcer.newest(9).is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    ledger.settle().await.unwrap();
    assert_eq!(announcer.newest(9).len(), 1);
    let kept = store.database.coverage().feed(&ibm()).await.unwrap().unwrap();
    assert_eq!(kept.down().ranges(), [range("2024-01-09T15:30", "2024-01-09T15:45")]);
}

async fn a_symbol_that_was_let_go_is_not_missed(store: &Store) {
    let running = Running::start(store, true).await;
    running.heard("2024-01-09T20:00");
    running.heard("2024-01-09T20:30");
    running.ledger.let_go(&ibm());
    running.stop().await;
    let running = Running::start(store, true).await;
    assert!(running.facts().await.down.is_empty());
    // It comes back, and what was known before still is.
    running.heard("2024-01-10T10:00");
    running.heard("2024-01-10T10:30");
    let connected = [
        range("2024-01-09T20:00", "2024-01-09T20:30"),
        range("2024-01-10T10:00", "2024-01-10T10:30"),
    ];
    let facts = running.facts().await;
    assert_eq!((facts.connected.ranges(), facts.down.is_empty()), (&connected[..], true));
    assert_eq!(running.stop().await, []);
    let running = Running::start(store, false).await;
    let facts = running.facts().await;
    assert_eq!(facts.connected.ranges(), connected, "written down whole");
    assert!(facts.down.is_empty(), "nobody follows it any more");
    running.stop().await;
}

/// The process that follows a symbol writes down how far it heard it; others read that.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn the_feed_of_another_process_is_there_until_it_says_otherwise_or_is_silent() {
    let store = Store::mongodb().await;
    let feed = Running::start(&store, true).await;
    feed.ledger.heard([(&ibm(), at("2024-01-09T15:00"))]);
    feed.ledger.settle().await.unwrap();
    let beside = Running::start(&store, true).await;
    // Its times may be those of a replay: only that it says something counts.
    feed.ledger.heard([(&ibm(), at("2024-01-09T15:10"))]);
    feed.ledger.settle().await.unwrap();
    let known = async |after: i64| {
        let now = Timestamp::now() + SignedDuration::from_secs(after);
        let facts = beside.ledger.facts(&series(), now).await.unwrap();
        (facts.connected.ranges().to_vec(), facts.down.ranges().first().map(TimeRange::open))
    };
    let heard = vec![range("2024-01-09T15:00", "2024-01-09T15:10")];
    assert_eq!(known(0).await, (heard.clone(), None));
    let away = Some(at("2024-01-09T15:10"));
    assert_eq!(known(60).await, (heard.clone(), away), "it is silent");
    feed.ledger.cut(&ibm());
    feed.ledger.settle().await.unwrap();
    assert_eq!(known(0).await, (heard, away), "it says so");
    // And the one whose feed it is needs nobody's word for it.
    feed.heard("2024-01-09T15:20");
    assert!(feed.facts().await.down.ranges().len() == 1);
    beside.stop().await;
    feed.stop().await;
}
