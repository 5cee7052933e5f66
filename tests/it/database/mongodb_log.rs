//! What the bar log promises where MongoDB fails between its steps.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{DateTime, Document, doc};
use pocketquant::domain::ohlcv::StoredBar;
use pocketquant::domain::shared::Interval;
use pocketquant::infrastructure::persistence::{Database, DatabaseError, LogBar, LogHead};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::bar_log::{aapl, append, entries, read, whole_log};
use super::{all, closed, fresh_name, mongodb_config, revision, series, time};
use crate::servers::{self, Server};

/// A database of the shared server, by our eyes and by the driver's.
struct Both {
    name: String,
    database: Database,
    raw: mongodb::Database,
}

impl Both {
    async fn new() -> Self {
        let (url, name) = (servers::mongodb_url().await, fresh_name());
        let raw = Client::with_uri_str(&url).await.unwrap().database(&name);
        Self { database: connect(&url, &name).await, name, raw }
    }

    /// What a process finds that starts after the last one ended.
    async fn restarted(&self) -> Database {
        connect(&servers::mongodb_url().await, &self.name).await
    }

    /// Whether the server takes documents for `collection`.
    async fn lets_in(&self, collection: &str, lets_in: bool) {
        let validator = if lets_in {
            doc! {}
        } else {
            doc! { "no": { "$eq": "document" } }
        };
        let change = doc! {
            "collMod": collection, "validator": validator, "validationLevel": "strict",
        };
        self.raw.run_command(change).await.unwrap();
    }

    async fn count(&self, collection: &str) -> u64 {
        self.raw.collection::<Document>(collection).count_documents(doc! {}).await.unwrap()
    }
}

async fn connect(url: &str, name: &str) -> Database {
    Database::connect(mongodb_config(url, name), TaskTracker::new()).await.unwrap()
}

fn batch(from: i64, to: i64) -> Vec<LogBar> {
    entries(&aapl(), (from..to).map(|index| closed(index, 1.0)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn what_is_logged_and_not_stored_is_unread_until_it_is_recovered() {
    for step in ["ohlcv", "bar_log_head"] {
        let both = Both::new().await;
        append(&both.database, &batch(0, 2)).await;
        both.lets_in(step, false).await;
        let failed = both.database.bar_log().append(&batch(2, 5), time(0)).await;
        assert!(matches!(failed, Err(DatabaseError::Refused { .. })), "{failed:?}");
        both.lets_in(step, true).await;
        assert_eq!(both.count("bar_log").await, 5, "it is written ahead");

        let database = both.restarted().await;
        let log = database.bar_log();
        assert_eq!(log.head().await.unwrap(), LogHead { first: 1, next: 3 });
        assert_eq!(whole_log(&database).await, batch(0, 2));
        assert_eq!(log.trim(time(99)).await.unwrap(), 2, "what is not applied is kept");
        let recovered = log.recover().await.unwrap();
        assert_eq!(recovered, (3..).zip(batch(2, 5)).collect::<Vec<_>>());
        assert_eq!(log.recover().await.unwrap(), []);
        assert_eq!(log.head().await.unwrap(), LogHead { first: 3, next: 6 });
        assert_eq!(read(&database, 2, 9).await.entries, recovered);
        assert_eq!(all(&database, &aapl()).await.len(), 5);
        assert_eq!(append(&database, &batch(4, 6)).await, [(5, 0), (6, 1)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_retry_goes_on_where_the_first_attempt_failed() {
    for step in ["bar_log", "ohlcv", "bar_log_head"] {
        let both = Both::new().await;
        append(&both.database, &batch(0, 2)).await;
        both.lets_in(step, false).await;
        for _ in 0..2 {
            both.database.bar_log().append(&batch(2, 5), time(0)).await.unwrap_err();
        }
        both.lets_in(step, true).await;
        // Somebody else's bars first: what failed is stored before them, where it was logged.
        let other = entries(&series("X:Y", Interval::D1), [closed(0, 1.0)]);
        append(&both.database, &other).await;
        append(&both.database, &batch(2, 5)).await;
        let log = whole_log(&both.database).await;
        let expected = match step {
            "bar_log" => [batch(0, 2), other, batch(2, 5)].concat(),
            _ => [batch(0, 5), other].concat(),
        };
        assert_eq!(log, expected, "{step}");
        assert_eq!(all(&both.database, &aapl()).await.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn what_a_dead_writer_still_gets_in_is_kept_and_stored() {
    let both = Both::new().await;
    append(&both.database, &batch(0, 2)).await;
    // The server runs what an earlier process had sent.
    let documents = both.raw.collection::<Document>("bar_log");
    let mut late = documents.find_one(doc! { "sequence": 2 }).await.unwrap().unwrap();
    late.remove("_id");
    late.insert("sequence", 3_i64);
    late.insert("datetime", DateTime::from_millis(time(2).as_millisecond()));
    documents.insert_one(late).await.unwrap();
    assert_eq!(append(&both.database, &batch(2, 4)).await, [(3, 0), (4, 1)]);
    assert_eq!(whole_log(&both.database).await, batch(0, 4));
    assert_eq!(all(&both.database, &aapl()).await.len(), 4);
    assert_eq!(both.count("bar_log").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn two_processes_write_one_log_without_holes() {
    let both = Both::new().await;
    let writers = [both.database.clone(), both.restarted().await];
    let mut tasks = tokio::task::JoinSet::new();
    for (writer, database) in (0..).zip(writers) {
        tasks.spawn(async move {
            for round in 0..15 {
                let from = writer * 1_000 + round * 10;
                let bars = batch(from, from + 10);
                // Who is overtaken too often is told so, and tries again.
                while let Err(error) = database.bar_log().append(&bars, time(0)).await {
                    assert!(error.is_transient(), "{error}");
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(whole_log(&both.database).await.len(), 300);
    assert_eq!(all(&both.database, &aapl()).await.len(), 300);
}

/// Appends until it is done, as the feed does with what it could not store.
async fn persist(database: &Database, bars: &[LogBar]) -> Vec<(u64, usize)> {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        match database.bar_log().append(bars, time(0)).await {
            Ok(sequences) => return sequences,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        assert!(Instant::now() < deadline, "it does not heal");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_server_killed_between_any_steps_leaves_one_whole_log() {
    const CRASHES: usize = 4;
    let mut server = Server::mongodb().await;
    let database = connect(&server.url(), "test").await;
    let writer = tokio::spawn({
        let database = database.clone();
        async move {
            let mut expected = Vec::new();
            for round in 0..240 {
                let mut bars = batch(round * 5, round * 5 + 5);
                // A correction of a bar of the round before, too.
                bars.extend(
                    (round > 0)
                        .then(|| revision(round * 5 - 1, 2.0, 2))
                        .into_iter()
                        .flat_map(|bar: StoredBar| entries(&aapl(), [bar])),
                );
                let sequences = persist(&database, &bars).await;
                let first = expected.len() as u64 + 1;
                assert_eq!(sequences, (first..).zip(0..bars.len()).collect::<Vec<_>>());
                expected.extend(bars);
            }
            expected
        }
    });
    for crash in 0..CRASHES {
        // Wherever it is by then; the log has grown since the last time.
        let seen = |page: Result<_, DatabaseError>| page.map_or(0, |head: LogHead| head.last());
        let from = seen(database.bar_log().head().await);
        let deadline = Instant::now() + Duration::from_mins(1);
        while seen(database.bar_log().head().await) < from + 40 + crash as u64 * 7 {
            assert!(Instant::now() < deadline && !writer.is_finished(), "crash {crash}");
        }
        server.crash();
        server.restart().await;
    }
    let expected = writer.await.unwrap();
    assert_eq!(whole_log(&database).await, expected);
    let stored = all(&database, &aapl()).await;
    assert_eq!(stored.len(), 1_200);
    let corrected = stored.iter().filter(|bar| bar.revision() == 2).count();
    assert_eq!(corrected, 239);
    assert_eq!(database.bar_log().recover().await.unwrap(), []);
}
