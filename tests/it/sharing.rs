//! Two services on one MongoDB and one Redis.

use std::collections::BTreeMap;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use tonic::transport::Channel;

use crate::engines::Engine;
use crate::processes::{Server, SimulatorProcess};
use crate::support::{demo_data, exported};

const SYMBOL: &str = "BINANCE:BTCUSDT";

fn full_history() -> pb::SyncSymbolRequest {
    pb::SyncSymbolRequest {
        symbol: SYMBOL.to_owned(),
        interval: Interval::Interval1h.into(),
        bar_count: None,
        full_history: true,
    }
}

async fn state(client: &mut MarketDataClient<Channel>) -> pb::SyncState {
    let request = pb::GetSyncStatusRequest {
        symbol: SYMBOL.to_owned(),
        interval: Interval::Interval1h.into(),
    };
    let status = client.get_sync_status(request).await;
    status.map_or(pb::SyncState::Unspecified, |status| status.into_inner().state())
}

async fn settings(simulator: &SimulatorProcess) -> BTreeMap<String, String> {
    let mut settings = simulator.settings();
    for (name, value) in Engine::Servers.settings().await {
        settings.insert(name.to_owned(), value);
    }
    settings
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn syncs_of_one_series_by_two_services_both_succeed() {
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=20"]).await;
    let settings = settings(&simulator).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = Server::start(folders[0].path(), &settings).await;
    let other = Server::start(folders[1].path(), &settings).await;
    let (mut client, mut second) = (one.market_data().await, other.market_data().await);
    let (a, b) =
        tokio::join!(client.sync_symbol(full_history()), second.sync_symbol(full_history()));
    assert_eq!(a.unwrap().into_inner().total_bars, 55_765);
    assert_eq!(b.unwrap().into_inner().total_bars, 55_765);
    assert_eq!(state(&mut client).await, pb::SyncState::Completed);
    assert_eq!(exported(&mut client, SYMBOL, Interval::Interval1h).await.len(), 55_765);
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_start_beside_a_sync_under_way_does_not_spoil_it() {
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=150"]).await;
    let settings = settings(&simulator).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = Server::start(folders[0].path(), &settings).await;
    let mut client = one.market_data().await;
    let mut caller = client.clone();
    let call = tokio::spawn(async move { caller.sync_symbol(full_history()).await });
    while state(&mut client).await != pb::SyncState::Syncing {
        assert!(!call.is_finished(), "it was over before it was seen");
    }
    // The other one cannot tell it from what a crash left.
    let other = Server::start(folders[1].path(), &settings).await;
    assert!(!call.is_finished(), "it was over before the other one started");
    assert_eq!(call.await.unwrap().unwrap().into_inner().total_bars, 55_765);
    assert_eq!(state(&mut client).await, pb::SyncState::Completed);
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
}
