//! What handlers and tasks hold of webhooks.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::WebhookPace;
use super::bar_fan_out::BarFanOut;
use super::dispatcher::Dispatcher;
use crate::common::shutdown::Lifecycle;
use crate::features::market_data::announcer::Untold;
use crate::features::market_data::{Announced, Announcer, Sessions};
use crate::infrastructure::persistence::{Database, DatabaseError, Lease, Webhook};
use crate::infrastructure::webhooks::{SenderError, WebhookSender};

/// How long is waited before the database is asked again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long what was told last is tried to be put when the service stops.
const LAST_TRIES: u32 = 3;
/// How often it is looked what other processes did, while there are webhooks, and while not.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// The webhooks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WebhookService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    announcer: Announcer,
    sessions: Sessions,
    sender: WebhookSender,
    pace: WebhookPace,
    stopping: CancellationToken,
    owner: Uuid,
    /// Rises with each change of a webhook.
    changes: watch::Sender<u64>,
}

impl WebhookService {
    /// Sends to the public internet, and to `allowed`, what the announcer and the bar log say.
    pub fn new(
        database: Database,
        announcer: Announcer,
        sessions: Sessions,
        allowed: &[IpNet],
        pace: WebhookPace,
        lifecycle: &Lifecycle,
    ) -> Result<Self, SenderError> {
        let sender = WebhookSender::new(allowed, pace.timeout)?;
        let (stopping, owner, changes) = (lifecycle.token(), Uuid::now_v7(), watch::Sender::new(0));
        let shared =
            Shared { database, announcer, sessions, sender, pace, stopping, owner, changes };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sends until the service stops.
    pub fn start(&self, untold: Untold, lifecycle: &Lifecycle) {
        let bars = BarFanOut::new(self.clone());
        drop(lifecycle.spawn("webhook bars", Box::pin(bars.run())));
        drop(lifecycle.spawn("webhook events", Box::pin(self.clone().put_told(untold))));
        let dispatcher = Dispatcher::new(self.clone());
        drop(lifecycle.spawn("webhooks", Box::pin(dispatcher.run())));
    }

    /// A webhook was created, enabled, disabled or deleted.
    pub(super) fn changed(&self) {
        // Before it is read again, so that no word of a bar is missed.
        self.shared.announcer.set_has_webhooks(true);
        self.shared.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Word of such changes.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The webhooks, as they are now.
    pub(super) async fn webhooks(&self) -> Result<Vec<Webhook>, DatabaseError> {
        let before = *self.shared.changes.borrow();
        let webhooks = self.database().webhooks().list().await?;
        if *self.shared.changes.borrow() == before {
            self.shared.announcer.set_has_webhooks(!webhooks.is_empty());
        }
        Ok(webhooks)
    }

    /// When it is to be looked again what other processes did; never where there are none.
    pub(super) fn look_again(&self, has_webhooks: bool) -> Option<Duration> {
        match (has_webhooks, self.database().is_shared()) {
            (true, _) => Some(LOOK_EVERY.0),
            (false, true) => Some(LOOK_EVERY.1),
            (false, false) => None,
        }
    }

    /// This process's hold on what it sends.
    pub(super) fn lease(&self) -> Lease {
        Lease { owner: self.shared.owner, length: self.pace().lease() }
    }

    pub(super) fn database(&self) -> &Database {
        &self.shared.database
    }

    pub(super) fn announcer(&self) -> &Announcer {
        &self.shared.announcer
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    pub(super) fn sender(&self) -> &WebhookSender {
        &self.shared.sender
    }

    pub(super) fn pace(&self) -> &WebhookPace {
        &self.shared.pace
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    /// Puts what the feed tells into the outbox.
    async fn put_told(self, mut untold: Untold) {
        while let Some(Some(told)) = self.stopping().run_until_cancelled(untold.next()).await {
            self.put(&told).await;
        }
        while let Some(told) = untold.left() {
            self.put(&told).await;
        }
    }

    /// Tries until it is done; a few times only once the service stops.
    async fn put(&self, told: &Announced) {
        let mut tries_left = LAST_TRIES;
        loop {
            let Err(error) = self.announcer().put(told).await else { return };
            if self.stopping().is_cancelled() {
                tries_left = tries_left.saturating_sub(1);
            }
            if !error.is_transient() || tries_left == 0 {
                warn!(%error, "an event is not told to webhooks");
                return;
            }
            sleep(RETRY_AFTER).await;
        }
    }
}
