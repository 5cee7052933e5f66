//! What only MongoDB has: databases that are there already, and a server that can go away.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Client, IndexModel};
use pocketquant::domain::ohlcv::{BarSource, Ohlcv, StoredBar};
use pocketquant::domain::shared::{EventType, Interval, Symbol};
use pocketquant::domain::sync::{SyncState, SyncStatus};
use pocketquant::infrastructure::interfaces::HistoryDepth;
use pocketquant::infrastructure::persistence::{
    Claim, Database, DatabaseConfig, DatabaseError, JobRun, Lease, NewDelivery, SymbolFilter,
    SyncCounts, SyncRecord, SyncStatusFilter,
};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    Store, all, closed, forming, fresh_name, inserted, is_unavailable, mongodb_config, series,
    time, unknown, updated, values, write,
};
use crate::servers::{self, Server};

/// The longest that any call may take, with room for a busy machine.
const LONGEST: Duration = Duration::from_secs(15);

async fn connect(url: &str, name: &str) -> Result<Database, DatabaseError> {
    Database::connect(mongodb_config(url, name), TaskTracker::new()).await
}

/// A database on the shared server, seen by the driver alone.
async fn raw(name: &str) -> mongodb::Database {
    Client::with_uri_str(servers::mongodb_url().await).await.unwrap().database(name)
}

/// A bar as the original system stored it.
fn old_bar(open: Timestamp, close: f64) -> Document {
    doc! {
        "symbol": "AAPL", "exchange": "NASDAQ", "interval": "1d",
        "datetime": DateTime::from_millis(open.as_millisecond()),
        "open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": 10_i64,
        "created_at": DateTime::from_millis(1), "updated_at": DateTime::from_millis(2),
    }
}

fn index(keys: Document, name: &str, unique: bool) -> IndexModel {
    let options = IndexOptions::builder().name(name.to_owned()).unique(unique).build();
    IndexModel::builder().keys(keys).options(options).build()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_database_of_the_original_system_is_taken_over() {
    let name = fresh_name();
    let old = raw(&name).await;
    let bars = old.collection::<Document>("ohlcv");
    bars.insert_many((0..3).map(|index| old_bar(time(index), 5.0))).await.unwrap();
    // One as the original named it, one as somebody else did, one by a client that knows doubles.
    let key = doc! { "symbol": 1, "exchange": 1, "interval": 1, "datetime": -1 };
    bars.create_index(index(key, "idx_ohlcv_unique", true)).await.unwrap();
    let symbols = old.collection::<Document>("symbols");
    let key = doc! { "symbol": 1.0, "exchange": 1.0 };
    symbols.create_index(index(key, "by_hand", true)).await.unwrap();
    symbols
        .insert_one(doc! { "symbol": "AAPL", "exchange": "NASDAQ", "name": "Apple", "extra": 1 })
        .await
        .unwrap();
    old.collection::<Document>("sync_status")
        .insert_one(doc! {
            "symbol": "AAPL", "exchange": "NASDAQ", "interval": "1d", "status": "completed",
            "bar_count": 3, "last_sync_at": DateTime::from_millis(7_000), "last_bar_at": null,
            "error_message": null,
        })
        .await
        .unwrap();

    let url = servers::mongodb_url().await;
    let database = connect(&url, &name).await.unwrap();
    let series = series("NASDAQ:AAPL", Interval::D1);
    let unknown = |index| unknown(index, 5.0);
    assert_eq!(all(&database, &series).await, [unknown(0), unknown(1), unknown(2)]);
    assert_eq!(database.bars().summary(&series).await.unwrap().bar_count, 3);
    let symbol = database.symbols().get(&series.symbol).await.unwrap().unwrap();
    assert_eq!(symbol.description.name.as_deref(), Some("Apple"));
    assert!(symbol.active && symbol.created_at > time(0));
    let status = database.sync_statuses().get(&series).await.unwrap().unwrap();
    assert_eq!((status.state, status.bar_count), (SyncState::Completed, 3));
    assert_eq!(status.last_sync_at, Timestamp::from_second(7).ok());

    // The unfinished newest bar becomes forming, another is corrected; each keeps its identity.
    let corrected = closed(1, 5.0).revised(values(6.0), BarSource::Provider);
    write(&database, &series, &updated([forming(2, 7.0), corrected])).await;
    assert_eq!(all(&database, &series).await, [unknown(0), corrected, forming(2, 7.0)]);
    assert_eq!(bars.count_documents(doc! {}).await.unwrap(), 3);
    let stored = bars.find_one(doc! { "state": "REVISED" }).await.unwrap().unwrap();
    assert_eq!(stored.get_datetime("created_at").unwrap(), &DateTime::from_millis(1));
    database.symbols().put(&symbol).await.unwrap();
    let stored = symbols.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(stored.get_i32("extra").unwrap(), 1, "what is not ours stays");
    // And once more, as every start does.
    connect(&url, &name).await.unwrap();
    assert_eq!(symbols.list_index_names().await.unwrap().len(), 2, "by_hand serves");
    assert_eq!(bars.list_index_names().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn documents_have_the_original_shape_and_its_additions() {
    let name = fresh_name();
    let database = connect(&servers::mongodb_url().await, &name).await.unwrap();
    let volume_free = Ohlcv::new(1.0, 2.0, 0.5, 1.5, None).unwrap();
    let mut bar = StoredBar::with_revision(time(0), volume_free, 2, BarSource::Repair);
    bar.tick_count = Some(9);
    write(&database, &series("NASDAQ:AAPL", Interval::H1), &inserted([bar])).await;
    let bars = raw(&name).await.collection::<Document>("ohlcv");
    let mut stored = bars.find_one(doc! {}).await.unwrap().unwrap();
    assert!(stored.remove("_id").is_some());
    let at = DateTime::from_millis(time(0).as_millisecond());
    let expected = doc! {
        "symbol": "AAPL", "exchange": "NASDAQ", "interval": "1h", "datetime": at,
        "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5,
        "state": "REVISED", "revision": 2, "source": "REPAIR", "tick_count": 9,
        "provider": "tradingview", "created_at": at, "updated_at": at,
    };
    assert_eq!(stored, expected);
    // What is no bar is refused by the server itself, whoever writes it.
    let wrong = doc! { "symbol": "AAPL", "exchange": "NASDAQ", "interval": "1h", "close": "x" };
    assert!(bars.insert_one(wrong).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_document_that_cannot_be_read_is_named() {
    let name = fresh_name();
    let bars = raw(&name).await.collection::<Document>("ohlcv");
    let mut broken = old_bar(time(0), 5.0);
    broken.insert("high", "much");
    bars.insert_one(broken).await.unwrap();
    let database = connect(&servers::mongodb_url().await, &name).await.unwrap();
    let series = series("NASDAQ:AAPL", Interval::D1);
    let error = database.bars().stretch(&series, time(0), time(9)).await.unwrap_err();
    assert!(!error.is_transient());
    let DatabaseError::Corrupt { collection, key, .. } = &error else { panic!("{error:?}") };
    let at = time(0).as_millisecond().to_string();
    assert_eq!(*collection, "ohlcv");
    assert!(key.contains("NASDAQ:AAPL 1d") && key.contains(&at), "{key}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn names_that_are_not_ours_do_not_hide_the_others() {
    let name = fresh_name();
    let raw = raw(&name).await;
    let strange = doc! { "symbol": "a b", "exchange": "?", "interval": "7x", "status": "error" };
    for collection in ["symbols", "sync_status"] {
        raw.collection::<Document>(collection).insert_one(&strange).await.unwrap();
    }
    let ours = doc! { "symbol": "AAPL", "exchange": "NASDAQ" };
    raw.collection::<Document>("symbols").insert_one(ours).await.unwrap();
    let database = connect(&servers::mongodb_url().await, &name).await.unwrap();
    let listed = database.symbols().list(&SymbolFilter::default(), None, 9).await.unwrap();
    assert_eq!(listed[0].symbol, Symbol::parse("NASDAQ:AAPL").unwrap());
    assert_eq!(listed.len(), 1);
    let statuses = database.sync_statuses();
    assert_eq!(statuses.list(&SyncStatusFilter::default(), None, 9).await.unwrap(), []);
    // A list that asks for one is not ended by what comes before it.
    let listed = database.symbols().list(&SymbolFilter::default(), None, 1).await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_status_that_cannot_be_read_hides_no_other_and_is_written_anew() {
    let name = fresh_name();
    let raw = raw(&name).await.collection::<Document>("sync_status");
    let row = |interval, status| {
        doc! { "symbol": "AAPL", "exchange": "NASDAQ", "interval": interval, "status": status }
    };
    raw.insert_many([row("1d", "strange"), row("1h", "completed")]).await.unwrap();
    let database = connect(&servers::mongodb_url().await, &name).await.unwrap();
    let statuses = database.sync_statuses();
    let listed = statuses.list(&SyncStatusFilter::default(), None, 1).await.unwrap();
    assert_eq!((listed.len(), listed[0].series.interval), (1, Interval::H1));
    let daily = series("NASDAQ:AAPL", Interval::D1);
    assert_eq!(statuses.get(&daily).await.unwrap(), None);
    statuses.put(&SyncStatus::pending(daily.clone()), time(0)).await.unwrap();
    assert_eq!(statuses.get(&daily).await.unwrap().unwrap().state, SyncState::Pending);
    assert_eq!(raw.count_documents(doc! {}).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_volume_that_is_not_a_number_is_none() {
    let name = fresh_name();
    let mut bar = old_bar(time(0), 5.0);
    bar.insert("volume", f64::NAN);
    raw(&name).await.collection::<Document>("ohlcv").insert_one(bar).await.unwrap();
    let database = connect(&servers::mongodb_url().await, &name).await.unwrap();
    let daily = series("NASDAQ:AAPL", Interval::D1);
    let bars = database.bars().stretch(&daily, time(0), time(9)).await.unwrap();
    assert_eq!((bars.len(), bars[0].values.volume()), (1, None));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn doubles_in_an_old_database_stop_the_start_with_a_remedy() {
    let name = fresh_name();
    let bars = raw(&name).await.collection::<Document>("ohlcv");
    bars.insert_many([old_bar(time(0), 5.0), old_bar(time(0), 6.0)]).await.unwrap();
    let error = connect(&servers::mongodb_url().await, &name).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DatabaseError::Config { .. }), "{error:?}");
    assert!(text.contains("idx_ohlcv_unique") && text.contains("remove"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let port = servers::free_port();
    let url = format!("mongodb://someone:hunter2@127.0.0.1:{port}/?authSource=admin");
    let begun = Instant::now();
    let error = connect(&url, "pocketquant").await.unwrap_err();
    assert!(matches!(error, DatabaseError::Config { .. }), "{error:?}");
    assert!(begun.elapsed() < LONGEST);
    let text = format!("{error} {error:?}");
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("MONGODB_URL"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!format!("{:?}", mongodb_config(&url, "x")).contains("hunter2"));
    for wrong in ["no url", "http://x", "mongodb://a:hunter2/@x", "mongodb://a:hunter2@x:port"] {
        let error = connect(wrong, "pocketquant").await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("MONGODB_URL") && !text.contains("hunter2"), "{text}");
    }
    let no_pool = DatabaseConfig::MongoDb {
        url: "mongodb://127.0.0.1".into(),
        database: "x".to_owned(),
        min_pool: 9,
        max_pool: 3,
    };
    let error = Database::connect(no_pool, TaskTracker::new()).await.unwrap_err();
    assert!(error.to_string().contains("MONGODB_MAX_POOL_SIZE"));
}

/// Calls until one passes; each that does not must be `Unavailable`, in time.
async fn heals(database: &Database) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let begun = Instant::now();
        let ping = database.ping().await;
        assert!(begun.elapsed() < LONGEST);
        if ping.is_ok() {
            return;
        }
        assert!(is_unavailable(&ping), "{ping:?}");
        assert!(Instant::now() < deadline, "it does not heal");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_server_that_hangs_is_unavailable_in_time_and_heals() {
    let server = Server::mongodb().await;
    let database = connect(&server.url(), "test").await.unwrap();
    let series = series("NASDAQ:AAPL", Interval::M1);
    write(&database, &series, &inserted([closed(0, 1.0)])).await;
    server.freeze();
    let begun = Instant::now();
    let bars = database.bars();
    let diff = updated([closed(0, 2.0).revised(values(2.0), BarSource::Provider)]);
    let (summary, written) =
        tokio::join!(bars.summary(&series), bars.write(&series, &diff, time(0)));
    assert!(is_unavailable(&summary), "{summary:?}");
    assert!(is_unavailable(&written), "{written:?}");
    assert!(begun.elapsed() < LONGEST, "{:?}", begun.elapsed());
    server.thaw();
    heals(&database).await;
    // What became of the write is not known; doing it again is safe.
    write(&database, &series, &diff).await;
    assert_eq!(all(&database, &series).await, diff.updated);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_killed_server_loses_nothing_that_was_acknowledged() {
    let mut server = Server::mongodb().await;
    let database = connect(&server.url(), "test").await.unwrap();
    let series = series("NASDAQ:AAPL", Interval::M1);
    let mut bars = Vec::new();
    for round in 0..3 {
        let page: Vec<_> = (0..2_000).map(|index| closed(round * 2_000 + index, 3.0)).collect();
        write(&database, &series, &inserted(page.clone())).await;
        bars.extend(page);
        server.crash();
        let summary = database.bars().summary(&series).await;
        assert!(is_unavailable(&summary), "{summary:?}");
        server.restart().await;
        heals(&database).await;
        assert_eq!(all(&database, &series).await, bars, "round {round}");
    }
}

#[tokio::test]
#[ignore = "needs a real mongod: run scripts/test"]
async fn a_webhooks_place_in_the_log_stays_where_its_bars_could_not_be_put() {
    let store = Store::mongodb().await;
    let id = super::webhooks::with_webhook(&store).await;
    let body = Bytes::from(vec![b' '; 17 << 20]);
    let (event_id, event_type) = (Uuid::now_v7(), EventType::BarClosed);
    let too_large = NewDelivery { webhook_id: id, event_id, event_type, body };
    let outbox = store.database.webhook_outbox();
    outbox.put_logged(id, vec![too_large], 8, 0, time(0)).await.unwrap_err();
    assert_eq!(store.database.webhooks().list().await.unwrap()[0].cursor, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn what_others_have_a_lease_of_is_theirs_until_that_lapses_on_the_server() {
    let store = Store::mongodb().await;
    let lease = || Lease { owner: Uuid::now_v7(), length: Duration::from_hours(1) };
    let (syncs, runs) = (store.database.syncs(), store.database.job_runs());
    let outbox = store.database.webhook_outbox();
    let webhook_id = super::webhooks::with_webhook(&store).await;
    let (event_id, event_type) = (Uuid::now_v7(), EventType::FeedUp);
    let delivery = NewDelivery { webhook_id, event_id, event_type, body: Bytes::new() };
    outbox.put(vec![delivery], time(0)).await.unwrap();
    let theirs = lease();
    let sync = SyncRecord {
        sync_id: Uuid::now_v7(),
        series: series("A:B", Interval::D1),
        depth: HistoryDepth::Full,
        state: SyncState::Syncing,
        counts: SyncCounts::default(),
        reached: None,
        started_at: time(0),
        ended: None,
    };
    syncs.insert(&sync, theirs).await.unwrap();
    let run = JobRun {
        run_id: Uuid::now_v7(),
        // No field of a document.
        job_id: "$owner".to_owned(),
        instant: None,
        attempt: 1,
        started_at: time(0),
        ended: None,
    };
    assert_eq!(runs.claim(run.clone(), theirs).await.unwrap(), Claim::Claimed(run.clone()));
    assert_eq!(outbox.claim(webhook_id, theirs, time(0), 9).await.unwrap().len(), 1);

    let ours = lease();
    let taken = async || {
        let claimed = outbox.claim(webhook_id, ours, time(0), 9).await.unwrap();
        let syncs = syncs.take_over(ours, 9).await.unwrap();
        (claimed.len(), syncs, runs.interrupt(ours.owner, &[]).await.unwrap())
    };
    assert_eq!(taken().await, (0, vec![], vec![]));
    store.lapse_leases().await;
    syncs.renew(theirs).await.unwrap();
    assert!(runs.renew(run.run_id, theirs).await.unwrap());
    assert_eq!(taken().await, (1, vec![], vec![]), "what is renewed is theirs");
    store.lapse_leases().await;
    assert_eq!(taken().await, (1, vec![sync], vec![run.job_id]));
    assert_eq!(taken().await, (0, vec![], vec![]));
}
