//! The database: one contract for both engines, and what only one of them has.

mod bar_log;
mod bars;
mod coverage;
mod feed;
mod job_runs;
mod model;
mod mongodb;
mod mongodb_log;
mod registry;
mod sqlite;
pub mod webhooks;

use std::sync::atomic::{AtomicU32, Ordering};

use ::mongodb::Client;
use ::mongodb::bson::{DateTime, Document, doc};
use jiff::Timestamp;
use pocketquant::domain::ohlcv::{BarSource, Ohlcv, StoredBar};
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::domain::sync::SyncDiff;
use pocketquant::infrastructure::persistence::{
    BarOrder, BarQuery, Database, DatabaseConfig, DatabaseError,
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::servers;

/// A new, empty database.
pub struct Store {
    pub database: Database,
    pub tasks: TaskTracker,
    pub folder: Option<TempDir>,
    /// What it is called, on MongoDB.
    name: String,
}

impl Store {
    pub async fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let tasks = TaskTracker::new();
        let config = DatabaseConfig::Sqlite { data_dir: folder.path().to_owned() };
        let database = Database::connect(config, tasks.clone()).await.unwrap();
        Self { database, tasks, folder: Some(folder), name: String::new() }
    }

    pub async fn mongodb() -> Self {
        let name = fresh_name();
        let config = mongodb_config(&servers::mongodb_url().await, &name);
        let tasks = TaskTracker::new();
        let database = Database::connect(config, tasks.clone()).await.unwrap();
        Self { database, tasks, folder: None, name }
    }

    /// Lets all leases lapse: as if those who have them had been frozen for longer.
    pub async fn lapse_leases(&self) {
        let leased = ["syncs", "job_runs", "webhook_outbox"];
        if let Some(folder) = &self.folder {
            let file = Connection::open(folder.path().join("pocketquant.db")).unwrap();
            for table in leased {
                let lapse = format!("UPDATE {table} SET leased_until = 0");
                file.execute(&lapse, []).unwrap();
            }
            return;
        }
        let client = Client::with_uri_str(servers::mongodb_url().await).await.unwrap();
        let lapsed = doc! { "$set": { "leased_until": DateTime::from_millis(0) } };
        for name in leased {
            let documents = client.database(&self.name).collection::<Document>(name);
            documents.update_many(doc! {}, lapsed.clone()).await.unwrap();
        }
    }
}

pub fn mongodb_config(url: &str, database: &str) -> DatabaseConfig {
    DatabaseConfig::MongoDb {
        url: url.into(),
        database: database.to_owned(),
        min_pool: 0,
        max_pool: 16,
    }
}

/// A database's name that no other test has, nor an earlier run.
pub fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let run = Timestamp::now().as_microsecond();
    format!("test_{run}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs each function on a new database of both engines.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&crate::database::Store::sqlite().await).await;
            })*
        }
        mod on_mongodb {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs a real mongod: run scripts/test"]
            async fn $name() {
                super::$name(&crate::database::Store::mongodb().await).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;

pub fn series(symbol: &str, interval: Interval) -> Series {
    Series::new(Symbol::parse(symbol).unwrap(), interval)
}

/// The open time of the bar `index`: minutes since 2024.
pub fn time(index: i64) -> Timestamp {
    Timestamp::from_second(1_704_067_200 + index * 60).unwrap()
}

pub fn values(close: f64) -> Ohlcv {
    Ohlcv::new(close, close + 1.0, close - 1.0, close, Some(10.0)).unwrap()
}

pub fn closed(index: i64, close: f64) -> StoredBar {
    StoredBar::closed(time(index), values(close), BarSource::Provider)
}

/// A bar as a version stored it that kept no finality.
pub fn unknown(index: i64, close: f64) -> StoredBar {
    let mut bar = closed(index, close);
    bar.finality_unknown = true;
    bar
}

pub fn forming(index: i64, close: f64) -> StoredBar {
    StoredBar::forming(time(index), values(close), BarSource::Provider)
}

pub fn revision(index: i64, close: f64, revision: u32) -> StoredBar {
    StoredBar::with_revision(time(index), values(close), revision, BarSource::Repair)
}

pub fn inserted(bars: impl IntoIterator<Item = StoredBar>) -> SyncDiff {
    SyncDiff { inserted: bars.into_iter().collect(), ..SyncDiff::default() }
}

pub fn updated(bars: impl IntoIterator<Item = StoredBar>) -> SyncDiff {
    SyncDiff { updated: bars.into_iter().collect(), ..SyncDiff::default() }
}

pub async fn write(database: &Database, series: &Series, diff: &SyncDiff) {
    database.bars().write(series, diff, time(0)).await.unwrap();
}

/// Everything that is stored of a series, oldest first.
pub async fn all(database: &Database, series: &Series) -> Vec<StoredBar> {
    database.bars().stretch(series, time(-1_000_000), time(1_000_000)).await.unwrap()
}

/// The last bars of a series, final ones only.
pub fn newest(limit: u32) -> BarQuery {
    BarQuery { start: None, end: None, order: BarOrder::NewestFirst, limit, include_forming: false }
}

pub fn is_unavailable<T: std::fmt::Debug>(result: &Result<T, DatabaseError>) -> bool {
    matches!(result, Err(error @ DatabaseError::Unavailable { .. }) if error.is_transient())
}
