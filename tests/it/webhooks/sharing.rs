//! Two servers on one MongoDB, both of which send.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::system_client::SystemClient;
use pocketquant::proto::v1::{DeliveryState, Interval};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use wiremock::ResponseTemplate;

use super::receiver::{Received, Receiver};
use super::{LOCAL, PATIENCE};
use crate::engines::Engine;
use crate::processes::{Server, SimulatorProcess};
use crate::support::demo_data;

/// Syncs of each server.
const ROUNDS: usize = 10;

pub async fn system(server: &Server) -> SystemClient<Channel> {
    SystemClient::new(Channel::from_shared(server.url()).unwrap().connect().await.unwrap())
}

pub async fn sync(server: &Server, symbol: &str) {
    let request = pb::SyncSymbolRequest {
        symbol: symbol.to_owned(),
        interval: Interval::Interval1d.into(),
        bar_count: Some(5),
        full_history: false,
    };
    server.market_data().await.sync_symbol(request).await.unwrap();
}

/// The ids of the events that `server` has told of.
async fn told(server: &Server) -> Vec<String> {
    let request = pb::ListEventsRequest { limit: Some(1_000) };
    let events = system(server).await.list_events(request).await.unwrap().into_inner().events;
    let ends = events.into_iter().filter(|event| event.r#type == "sync.completed");
    ends.map(|event| event.id).collect()
}

/// Waits until all deliveries have ended well.
async fn until_delivered(server: &Server, webhook_id: &str) -> BTreeSet<String> {
    let mut client = system(server).await;
    let delivered = async {
        loop {
            let webhook_id = webhook_id.to_owned();
            let request = pb::ListDeliveriesRequest { webhook_id, ..Default::default() };
            let listed = client.list_deliveries(request).await.unwrap().into_inner().deliveries;
            if listed.iter().all(|each| each.state() == DeliveryState::Delivered) {
                return listed.into_iter().map(|each| each.event_id).collect();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, delivered).await.expect("all are delivered")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn two_servers_on_one_database_send_each_event_once() {
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let mut settings: BTreeMap<String, String> = simulator.settings();
    settings.insert(LOCAL.0.to_owned(), LOCAL.1.to_owned());
    for (name, value) in Engine::Servers.settings().await {
        settings.insert(name.to_owned(), value);
    }
    let receiver = Receiver::start().await;
    // So slow that while one server sends, the other looks for what is due.
    for _ in 0..2 * ROUNDS {
        receiver.then(ResponseTemplate::new(204).set_delay(Duration::from_millis(200)));
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = Server::start(folders[0].path(), &settings).await;
    let request = pb::CreateWebhookRequest {
        url: receiver.url(),
        event_types: vec!["sync.completed".to_owned()],
        ..Default::default()
    };
    let hook = system(&one).await.create_webhook(request).await.unwrap().into_inner().webhook_id;
    // It knows of the webhook from its start.
    let other = Server::start(folders[1].path(), &settings).await;
    for _ in 0..ROUNDS {
        tokio::join!(sync(&one, "NYSE:IBM"), sync(&other, "NASDAQ:AAPL-UNADJ"));
    }

    let delivered = until_delivered(&other, &hook).await;
    let events: Vec<String> = [told(&one).await, told(&other).await].concat();
    assert_eq!(events.len(), 2 * ROUNDS);
    assert_eq!(delivered, events.into_iter().collect(), "none is lost");
    let mut times: HashMap<String, usize> = HashMap::new();
    for Received { id, .. } in receiver.received() {
        *times.entry(id).or_default() += 1;
    }
    assert!(times.keys().all(|id| delivered.contains(id)), "their ids are stable");
    assert!(times.values().all(|times| *times == 1), "the lease is the sender's: {times:?}");
    assert_eq!(times.len(), delivered.len());
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
}
