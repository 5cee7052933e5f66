//! Commands that are sent again under their idempotency key, on every store of the records.

mod calls;
mod records;
mod redis_away;
mod restarts;
mod sharing;

use std::collections::BTreeMap;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::processes::SimulatorProcess;
use crate::servers;

/// Where the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    Sqlite,
    MongoDb,
    Redis,
}

impl Keeper {
    /// The settings that choose it; a database of its own.
    async fn settings(self) -> Vec<(&'static str, String)> {
        match self {
            Self::Sqlite => Vec::new(),
            Self::MongoDb => vec![
                ("MONGODB_URL", servers::mongodb_url().await),
                ("MONGODB_DATABASE", format!("it_{}", uuid::Uuid::now_v7().simple())),
            ],
            Self::Redis => vec![("REDIS_URL", servers::own_redis_url().await)],
        }
    }
}

/// Declares each test once for each store.
macro_rules! on_every_keeper {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::idempotency::Keeper::Sqlite).await;
            })+
        }
        mod mongodb {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs a real mongod: run scripts/test"]
            async fn $name() {
                super::$name($crate::idempotency::Keeper::MongoDb).await;
            })+
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs a real redis-server: run scripts/test"]
            async fn $name() {
                super::$name($crate::idempotency::Keeper::Redis).await;
            })+
        }
    };
}
use on_every_keeper;

const SYMBOL: &str = "NYSE:IBM";

/// The newest `bars` daily bars, under `key`.
fn sync(key: &str, bars: i32) -> Request<pb::SyncSymbolRequest> {
    with_key(key, sync_without_key(bars))
}

fn sync_without_key(bars: i32) -> pb::SyncSymbolRequest {
    pb::SyncSymbolRequest {
        symbol: SYMBOL.to_owned(),
        interval: Interval::Interval1d.into(),
        bar_count: Some(bars),
        full_history: false,
    }
}

fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

fn is_replayed(metadata: &MetadataMap) -> bool {
    metadata.get("idempotency-replayed").is_some_and(|value| value == "true")
}

/// What makes `simulator` and `keeper` a process's own.
async fn settings(simulator: &SimulatorProcess, keeper: Keeper) -> BTreeMap<String, String> {
    let mut settings = simulator.settings();
    for (name, value) in keeper.settings().await {
        settings.insert(name.to_owned(), value);
    }
    settings
}

/// What the simulator counts.
async fn stats(simulator: &SimulatorProcess) -> serde_json::Value {
    let url = format!("{}/_sim/stats", simulator.endpoints["http_url"].as_str().unwrap());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}
