//! Webhooks as their owners see them: a real receiver, the real service.

mod bounds;
mod crash;
mod faults;
mod guard;
mod pages;
mod receiver;
mod secrets;
mod sharing;
mod signatures;
mod told;

use std::time::Duration;

use pocketquant::features::market_data::webhooks::WebhookPace;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use tokio::time::{sleep, timeout};

use self::receiver::Receiver;
use crate::engines::Engine;
use crate::support::{TestApp, TestSimulator, demo_data};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// The setting that lets webhooks be on this machine.
const LOCAL: (&str, &str) = ("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8");

/// Tries follow each other at once; each may take `timeout`.
fn quick(tries: usize, timeout: Duration) -> WebhookPace {
    WebhookPace { retries: vec![Duration::from_millis(10); tries - 1], timeout }
}

/// A service that sends to this machine, and a receiver there.
async fn scene(engine: Engine, pace: WebhookPace) -> (TestSimulator, TestApp, Receiver) {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::with_webhooks(engine, &simulator, &[LOCAL], pace).await;
    (simulator, app, Receiver::start().await)
}

async fn create(app: &mut TestApp, url: &str, event_types: &[&str]) -> pb::Webhook {
    let request = pb::CreateWebhookRequest {
        url: url.to_owned(),
        event_types: event_types.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    };
    app.system.create_webhook(request).await.unwrap().into_inner()
}

/// Makes an event: a sync of a few bars that ends well.
async fn sync(app: &mut TestApp) {
    app.sync("NYSE:IBM", Interval::Interval1d, 10).await.unwrap();
}

async fn deliveries(app: &mut TestApp, webhook_id: &str) -> Vec<pb::Delivery> {
    let webhook_id = webhook_id.to_owned();
    let request = pb::ListDeliveriesRequest { webhook_id, ..Default::default() };
    app.system.list_deliveries(request).await.unwrap().into_inner().deliveries
}

/// Waits until the newest delivery is as `wanted`.
async fn until_delivery(
    app: &mut TestApp,
    webhook_id: &str,
    wanted: impl Fn(&pb::Delivery) -> bool,
) -> pb::Delivery {
    let mut last = Vec::new();
    let found = async {
        loop {
            last = deliveries(app, webhook_id).await;
            if let Some(delivery) = last.first().filter(|delivery| wanted(delivery)) {
                return delivery.clone();
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let found = timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("it never was as wanted: {last:?}"))
}

async fn webhook(app: &mut TestApp, webhook_id: &str) -> pb::Webhook {
    let listed = app.system.list_webhooks(pb::ListWebhooksRequest {}).await.unwrap().into_inner();
    listed.webhooks.into_iter().find(|webhook| webhook.webhook_id == webhook_id).unwrap()
}
