//! A database that the original PocketQuant filled is served, synced and migrated.

use jiff::Timestamp;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Client, Collection};
use pocketquant::app;
use pocketquant::common::config::Settings;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;

use crate::engines::Engine;
use crate::support::{TestApp, TestSimulator, demo_data, file_days, lookup};

/// The original's documents of the newest IBM days: its field set, stamped at 00:00Z, the newest
/// one as it was before the day was over.
async fn fill(documents: &Collection<Document>, days: usize) {
    let rows = file_days(&demo_data().join("NYSE_IBM_1d.csv"));
    let newest = rows.len() - 1;
    let time = |date: &str| {
        let midnight: Timestamp = format!("{date}T00:00:00Z").parse().unwrap();
        DateTime::from_millis(midnight.as_millisecond())
    };
    let document = |(row, (date, values)): (usize, &(String, [f64; 5]))| {
        let unfinished = row == newest;
        let close = if unfinished { values[0] } else { values[3] };
        doc! {
            "symbol": "IBM", "exchange": "NYSE", "interval": "1d", "datetime": time(date),
            "open": values[0], "high": values[1], "low": values[2], "close": close,
            "volume": values[4], "created_at": time(date), "updated_at": time(date),
        }
    };
    let all: Vec<Document> =
        rows.iter().enumerate().skip(rows.len() - days).map(document).collect();
    documents.insert_many(all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn the_originals_database_is_served_synced_and_migrated() {
    let simulator = TestSimulator::start(demo_data()).await;
    let settings: Vec<(String, String)> = Engine::Servers
        .settings()
        .await
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let setting = |name: &str| settings.iter().find(|(each, _)| each == name).unwrap().1.clone();
    let client = Client::with_uri_str(setting("MONGODB_URL")).await.unwrap();
    let database = client.database(&setting("MONGODB_DATABASE"));
    let documents = database.collection::<Document>("ohlcv");
    fill(&documents, 50).await;

    // Served as it is: closed, first revision.
    let mut app = TestApp::with_settings(&simulator, settings.clone()).await;
    let served = app.bars("NYSE:IBM", Interval::Interval1d, |_| ()).await.unwrap();
    assert_eq!(served.bars.len(), 50);
    let newest = &served.bars[0];
    assert_eq!((newest.state(), newest.revision), (pb::BarState::Closed, 1));
    assert_eq!(newest.source(), pb::BarSource::Provider);
    assert!(newest.close.total_cmp(&newest.open).is_eq(), "as it was before the day was over");

    // Synced: the right bars stand beside the doubles.
    let synced = app.sync("NYSE:IBM", Interval::Interval1d, 10).await.unwrap();
    assert!(synced.bars_inserted >= 10, "{synced:?}");
    assert_eq!(app.bars("NYSE:IBM", Interval::Interval1d, |_| ()).await.unwrap().bars.len(), 60);
    app.stop().await;

    // Migrated: a dry run changes nothing, then only the doubles go.
    let folder = tempfile::tempdir().unwrap();
    let settings_of =
        || Settings::from_lookup(lookup(&simulator, folder.path(), &settings)).unwrap();
    let dry = app::migrate(&settings_of(), false).await.unwrap();
    assert_eq!((dry.doubles.len(), dry.waiting.len(), dry.removed), (10, 40, 0));
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 60);
    let applied = app::migrate(&settings_of(), true).await.unwrap();
    assert_eq!(applied.removed, 10);
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 50);

    let mut app = TestApp::with_settings(&simulator, settings.clone()).await;
    let served = app.bars("NYSE:IBM", Interval::Interval1d, |_| ()).await.unwrap();
    let at_open = served.bars.iter().filter(|bar| bar.open_time.unwrap().seconds % 86_400 != 0);
    assert_eq!(at_open.count(), 10);
    let status = app.status("NYSE:IBM", Interval::Interval1d).await.unwrap();
    assert_eq!(status.bar_count, 50, "the row counts what was left");
    app.sync_all("NYSE:IBM", Interval::Interval1d).await.unwrap();
    app.stop().await;
    let rest = app::migrate(&settings_of(), true).await.unwrap();
    assert_eq!((rest.removed, rest.waiting.len()), (40, 0));
    let again = app::migrate(&settings_of(), true).await.unwrap();
    assert_eq!((again.removed, again.doubles.len()), (0, 0));
    let left = documents.count_documents(doc! {}).await.unwrap();
    assert_eq!(left, 3_270, "the file's bars, each once");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn the_originals_unfinished_newest_bar_is_fetched_again_however_few_bars_are_asked_for() {
    let simulator = TestSimulator::start(demo_data()).await;
    let settings: Vec<(String, String)> = Engine::Servers
        .settings()
        .await
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let setting = |name: &str| settings.iter().find(|(each, _)| each == name).unwrap().1.clone();
    let client = Client::with_uri_str(setting("MONGODB_URL")).await.unwrap();
    let documents = client.database(&setting("MONGODB_DATABASE")).collection::<Document>("ohlcv");
    // An hourly bar of 2023-12-01, stored before it was over; 24x7, so nothing is double.
    let time: Timestamp = "2023-12-01T10:00:00Z".parse().unwrap();
    let old = doc! {
        "symbol": "BTCUSDT", "exchange": "BINANCE", "interval": "1h",
        "datetime": DateTime::from_millis(time.as_millisecond()),
        "open": 1, "high": 2, "low": 1, "close": 2.5_f64.min(2.0), "volume": 7_i64,
        "created_at": DateTime::now(), "updated_at": DateTime::now(),
    };
    documents.insert_one(old).await.unwrap();

    let mut app = TestApp::with_settings(&simulator, settings.clone()).await;
    let synced = app.sync("BINANCE:BTCUSDT", Interval::Interval1h, 5).await.unwrap();
    assert_eq!(synced.bars_updated, 1, "{synced:?}");
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let page = app
        .bars("BINANCE:BTCUSDT", Interval::Interval1h, |request| {
            request.start_time = at(time.as_second());
            request.end_time = at(time.as_second() + 1);
        })
        .await
        .unwrap();
    assert_eq!((page.bars[0].state(), page.bars[0].revision), (pb::BarState::Revised, 2));
    assert!(page.bars[0].close > 30_000.0);
    app.stop().await;
}
