//! The embedded database on a disk that takes nothing more, and after a write that was torn.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::processes::{Server, SimulatorProcess};
use crate::support::{demo_data, exported, reason, retry_delay};

const IBM: &str = "NYSE:IBM";
const AAPL: &str = "NASDAQ:AAPL-UNADJ";
/// A write beyond the limit is an error, as on a full disk, and not the end of the process.
pub const WITHOUT_SIGNAL: &str = r#"trap '' XFSZ; exec "$0" serve"#;

async fn sync(
    client: &mut MarketDataClient<Channel>,
    symbol: &str,
) -> Result<pb::SyncResult, Status> {
    let request = pb::SyncSymbolRequest {
        symbol: symbol.to_owned(),
        interval: Interval::Interval1d.into(),
        bar_count: Some(500),
        full_history: false,
    };
    client.sync_symbol(request).await.map(tonic::Response::into_inner)
}

async fn settings() -> (SimulatorProcess, BTreeMap<String, String>) {
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let mut settings = simulator.settings();
    settings.insert("DATA_DIR".to_owned(), "data".to_owned());
    (simulator, settings)
}

/// From now on no file of the process may become longer than this, or as long as it likes.
pub fn limit_files(server: &Server, limit: &str) {
    let pid = server.pid().to_string();
    let limit = format!("--fsize={limit}:");
    let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
    assert!(limited.success());
}

fn is_whole(folder: &Path) {
    let file = rusqlite::Connection::open(folder.join("data/pocketquant.db")).unwrap();
    let said: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_unavailable_and_nothing_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (_simulator, settings) = settings().await;
    let server = Server::start_in_shell(WITHOUT_SIGNAL, folder.path(), &settings).await;
    let mut client = server.market_data().await;
    sync(&mut client, IBM).await.unwrap();
    let ibm = exported(&mut client, IBM, Interval::Interval1d).await;

    limit_files(&server, "1");
    let full = sync(&mut client, AAPL).await.unwrap_err();
    assert_eq!(reason(&full), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
    assert!(retry_delay(&full).is_some());
    assert_eq!(exported(&mut client, IBM, Interval::Interval1d).await, ibm, "reads go on");

    limit_files(&server, "unlimited");
    let synced = sync(&mut client, AAPL).await.unwrap();
    assert_eq!((synced.bars_inserted, synced.total_bars), (500, 500));
    let aapl = exported(&mut client, AAPL, Interval::Interval1d).await;
    server.kill().await;

    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    assert_eq!(exported(&mut client, IBM, Interval::Interval1d).await, ibm);
    assert_eq!(exported(&mut client, AAPL, Interval::Interval1d).await, aapl);
    assert_eq!(server.terminate().await, Some(0));
    is_whole(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_write_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (_simulator, settings) = settings().await;
    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    sync(&mut client, IBM).await.unwrap();
    let ibm = exported(&mut client, IBM, Interval::Interval1d).await;
    server.kill().await;

    // What a write leaves that was begun and not finished: part of a page, behind all others.
    let log = folder.path().join("data/pocketquant.db-wal");
    let page: Vec<u8> = std::fs::read(&log).unwrap().into_iter().skip(32).take(3_000).collect();
    assert_eq!(page.len(), 3_000, "nothing is in the log");
    OpenOptions::new().append(true).open(&log).unwrap().write_all(&page).unwrap();

    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    assert_eq!(exported(&mut client, IBM, Interval::Interval1d).await, ibm);
    assert_eq!(sync(&mut client, AAPL).await.unwrap().total_bars, 500);
    assert_eq!(server.terminate().await, Some(0));
    is_whole(folder.path());
}
