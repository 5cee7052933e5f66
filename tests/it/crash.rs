//! Killed in the middle: nothing half-written, and the next start goes on with the sync.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use tonic::transport::Channel;

use crate::engines::{Engine, on_every_engine};
use crate::processes::{Server, SimulatorProcess};
use crate::support::{demo_data, exported, file_bars};

on_every_engine!(a_killed_sync_goes_on_with_the_next_start_and_completes);

const SYMBOL: &str = "BINANCE:BTCUSDT";

fn full_history() -> pb::SyncSymbolRequest {
    pb::SyncSymbolRequest {
        symbol: SYMBOL.to_owned(),
        interval: Interval::Interval1h.into(),
        bar_count: None,
        full_history: true,
    }
}

async fn status(client: &mut MarketDataClient<Channel>) -> Option<pb::SyncStatus> {
    let request = pb::GetSyncStatusRequest {
        symbol: SYMBOL.to_owned(),
        interval: Interval::Interval1h.into(),
    };
    client.get_sync_status(request).await.ok().map(tonic::Response::into_inner)
}

async fn a_killed_sync_goes_on_with_the_next_start_and_completes(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    // Slow enough that it cannot be over before it is killed.
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=50"]).await;
    let mut settings = simulator.settings();
    for (name, value) in engine.settings().await {
        settings.insert(name.to_owned(), value);
    }

    for kill_after in [1, 15_000, 40_000] {
        let server = Server::start(folder.path(), &settings).await;
        let mut client = server.market_data().await;
        let mut caller = client.clone();
        let call = tokio::spawn(async move { caller.sync_symbol(full_history()).await });
        while exported(&mut client, SYMBOL, Interval::Interval1h).await.len() < kill_after {
            assert!(!call.is_finished(), "it was over before it was killed");
        }
        assert_eq!(status(&mut client).await.unwrap().state(), pb::SyncState::Syncing);
        server.kill().await;
        assert!(call.await.unwrap().is_err());
    }

    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    // It joins the one that goes on, whose count takes in what was fetched before the crashes.
    let synced = client.sync_symbol(full_history()).await.unwrap().into_inner();
    assert_eq!((synced.total_bars, synced.bars_fetched), (55_765, 55_765));
    let file = file_bars(&demo_data().join("BINANCE_BTCUSDT_1h.csv"));
    assert_eq!(exported(&mut client, SYMBOL, Interval::Interval1h).await, file);
    // On servers, what the crash left is taken over once its lease has lapsed, and ends as well.
    while status(&mut client).await.unwrap().state() != pb::SyncState::Completed {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.terminate().await, Some(0));
}
