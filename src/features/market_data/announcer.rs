//! Tells what has happened: whoever listens in this process, and webhooks, through their outbox.
//!
//! What webhooks are told of bars comes from the bar log, which outlives a crash, and not from
//! here: there is only word that it has grown. All else is put into the outbox here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tracing::warn;
use uuid::Uuid;

use super::event_json;
use crate::common::constants::{EVENT_QUEUE, LISTED_EVENTS};
use crate::common::messaging::{EventBus, Subscription};
use crate::common::metrics::table::WEBHOOK_EVENTS_LOST;
use crate::common::tracing::CorrelationId;
use crate::domain::shared::{DomainEvent, EventPayload, Interval, Symbol};
use crate::infrastructure::persistence::{Database, DatabaseError, NewDelivery, Webhook};

/// An event, by its id, and the call that caused it.
#[derive(Clone, Debug, PartialEq)]
pub struct Announced {
    /// The same whenever the event is told.
    pub id: Uuid,
    /// The call that it happened in, if it did in one.
    pub correlation_id: Option<CorrelationId>,
    /// What happened.
    pub event: DomainEvent,
}

/// Tells what has happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    events: EventBus<Announced>,
    database: Database,
    told: mpsc::Sender<Announced>,
    /// Whether this process knows of a webhook.
    has_webhooks: AtomicBool,
    logged: Notify,
    put: Notify,
}

/// What was told and is not in the outbox yet.
#[derive(Debug)]
pub struct Untold(mpsc::Receiver<Announced>);

impl Announcer {
    /// Puts what webhooks are to be sent into the outbox of `database`. Somebody must see to what
    /// is in the answer's second part: see [`Untold::next`].
    pub fn new(database: Database) -> (Self, Untold) {
        let (told, untold) = mpsc::channel(EVENT_QUEUE);
        let remembered = usize::try_from(LISTED_EVENTS).unwrap_or_default();
        let shared = Shared {
            events: EventBus::with_history(remembered, EVENT_QUEUE),
            database,
            told,
            has_webhooks: AtomicBool::new(true),
            logged: Notify::new(),
            put: Notify::new(),
        };
        (Self { shared: Arc::new(shared) }, Untold(untold))
    }

    /// Tells of a bar that is stored.
    pub fn publish(&self, event: DomainEvent) {
        self.shared.events.publish(announced(event, None));
    }

    /// Puts what happened into the outbox, then tells of it. With the same `id`, or for an event
    /// that has an id of its own, it may be repeated.
    pub async fn record(&self, event: DomainEvent, id: Option<Uuid>) -> Result<(), DatabaseError> {
        let announced = announced(event, id);
        self.put(&announced).await?;
        self.shared.events.publish(announced);
        Ok(())
    }

    /// Tells what happened, and puts it into the outbox a moment later: for whoever does not wait
    /// for the database.
    pub fn tell(&self, event: DomainEvent) {
        let announced = announced(event, None);
        if self.shared.told.try_send(announced.clone()).is_err() {
            WEBHOOK_EVENTS_LOST.with(["untold"]).increment(1);
            warn!("an event is not told to webhooks: too many wait, as the database is away");
        }
        self.shared.events.publish(announced);
    }

    /// Bars were put into the log.
    pub fn bars_logged(&self) {
        if self.has_webhooks() {
            self.shared.logged.notify_one();
        }
    }

    /// Listens from the next event on.
    pub fn subscribe(&self) -> Subscription<Announced> {
        self.shared.events.subscribe()
    }

    /// The newest events, at most `limit`, the newest first.
    pub fn newest(&self, limit: usize) -> Vec<Arc<Announced>> {
        self.shared.events.history(limit)
    }

    /// Puts what was told into the outbox.
    pub async fn put(&self, announced: &Announced) -> Result<(), DatabaseError> {
        // What another process creates in a shared database is not known here yet.
        if !self.has_webhooks() && !self.shared.database.is_shared() {
            return Ok(());
        }
        let webhooks = self.shared.database.webhooks().list().await?;
        let payload = &announced.event.payload;
        let wanting = webhooks.iter().filter(|webhook| wants(webhook, payload));
        let deliveries: Vec<_> = wanting.map(|webhook| delivery(webhook, announced)).collect();
        if deliveries.is_empty() {
            return Ok(());
        }
        self.shared.database.webhook_outbox().put(deliveries, Timestamp::now()).await?;
        self.shared.put.notify_one();
        Ok(())
    }

    /// From now on there are, or are no, webhooks.
    pub(super) fn set_has_webhooks(&self, has_webhooks: bool) {
        self.shared.has_webhooks.store(has_webhooks, Ordering::Relaxed);
    }

    /// Waits for the next word of bars in the log.
    pub(super) async fn until_logged(&self) {
        self.shared.logged.notified().await;
    }

    /// Waits for the next word of events in the outbox.
    pub(super) async fn until_put(&self) {
        self.shared.put.notified().await;
    }

    /// Events were put into the outbox.
    pub(super) fn was_put(&self) {
        self.shared.put.notify_one();
    }

    fn has_webhooks(&self) -> bool {
        self.shared.has_webhooks.load(Ordering::Relaxed)
    }
}

impl Untold {
    /// What was told next and is to be put; none once nobody tells any more.
    pub async fn next(&mut self) -> Option<Announced> {
        self.0.recv().await
    }

    /// The same, of what was told by now.
    pub fn left(&mut self) -> Option<Announced> {
        self.0.try_recv().ok()
    }
}

fn announced(event: DomainEvent, id: Option<Uuid>) -> Announced {
    let id = id.unwrap_or_else(|| event_json::id(&event.payload));
    Announced { id, correlation_id: CorrelationId::current(), event }
}

fn delivery(webhook: &Webhook, announced: &Announced) -> NewDelivery {
    NewDelivery {
        webhook_id: webhook.id,
        event_id: announced.id,
        event_type: announced.event.payload.event_type(),
        body: event_json::body(&announced.event),
    }
}

/// Whether an endpoint is to be sent this.
fn wants(webhook: &Webhook, payload: &EventPayload) -> bool {
    let (symbol, interval) = about(payload);
    let types = &webhook.event_types;
    webhook.disabled.is_none()
        && (types.is_empty() || types.contains(&payload.event_type()))
        && symbol.is_none_or(|it| webhook.symbols.is_empty() || webhook.symbols.contains(it))
        && interval.is_none_or(|it| webhook.intervals.is_empty() || webhook.intervals.contains(&it))
}

/// What an event is about.
const fn about(payload: &EventPayload) -> (Option<&Symbol>, Option<Interval>) {
    match payload {
        EventPayload::HistoricalDataSynced { series, .. }
        | EventPayload::SyncFailed { series, .. }
        | EventPayload::BarCompleted { series, .. }
        | EventPayload::BarRevised { series, .. } => (Some(&series.symbol), Some(series.interval)),
        EventPayload::GapDetected { symbol, .. } => (Some(symbol), None),
        EventPayload::FeedConnected | EventPayload::FeedLost { .. } => (None, None),
    }
}
