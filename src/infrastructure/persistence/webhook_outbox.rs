//! What is to be sent to webhooks, and what became of it, whichever engine keeps it.
//!
//! An event that waits for an endpoint belongs to a process while that sends it, by a lease: when
//! the process dies, the lease lapses, and another process, or the next start, sends it again.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, Lease, mongodb, sqlite};
use crate::domain::shared::EventType;

/// An event that an endpoint is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// To which endpoint.
    pub webhook_id: Uuid,
    /// Which event: an endpoint has one delivery of an event, however often it is put.
    pub event_id: Uuid,
    /// What it is called.
    pub event_type: EventType,
    /// What is sent, byte for byte.
    pub body: Bytes,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is to be sent, perhaps again.
    Pending,
    /// The endpoint took it.
    Delivered,
    /// It was tried as often as it is tried.
    Failed,
}

/// An event and an endpoint, and what became of them. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// To which endpoint.
    pub webhook_id: Uuid,
    /// Which event.
    pub event_id: Uuid,
    /// What it is called.
    pub event_type: EventType,
    /// What is sent.
    pub body: Bytes,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was sent.
    pub attempts: u32,
    /// When it is sent next, while it is pending.
    pub next_attempt_at: Timestamp,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// When it ended; absent while it is pending.
    pub ended_at: Option<Timestamp>,
    /// The HTTP status of the last answer, if there was one.
    pub status: Option<u16>,
    /// Why the last try failed; empty where none did.
    pub error: String,
}

/// A delivery's place in the list of its endpoint, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryPlace {
    /// When it was put.
    pub created_at: Timestamp,
    /// Which event.
    pub event_id: Uuid,
}

/// What became of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// To which endpoint.
    pub webhook_id: Uuid,
    /// Which event.
    pub event_id: Uuid,
    /// The how manyth try it was: from 1.
    pub attempt: u32,
    /// How it stands now.
    pub state: DeliveryState,
    /// When the try ended.
    pub at: Timestamp,
    /// When it is sent again, while it is pending.
    pub next_attempt_at: Timestamp,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed; empty where it did not.
    pub error: String,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxSize {
    /// Deliveries that are pending.
    pub pending: u64,
    /// Since when the oldest of them waits.
    pub oldest: Option<Timestamp>,
    /// When the first of them is due that nobody is sending.
    pub due: Option<Timestamp>,
}

/// The outbox. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WebhookOutbox {
    engine: OutboxEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum OutboxEngine {
    MongoDb(mongodb::WebhookOutbox),
    Sqlite(sqlite::WebhookOutbox),
}

impl WebhookOutbox {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), "webhook_outbox");
        let engine = match engine {
            Engine::MongoDb(engine) => OutboxEngine::MongoDb(mongodb::WebhookOutbox::new(engine)),
            Engine::Sqlite(engine) => OutboxEngine::Sqlite(sqlite::WebhookOutbox::new(engine)),
        };
        Self { engine, calls }
    }

    /// Puts `deliveries` that are not there yet, due at `at`; of an endpoint that was just deleted,
    /// nothing is kept. Durable when it returns.
    pub async fn put(
        &self,
        deliveries: Vec<NewDelivery>,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.put(deliveries, at).await,
                OutboxEngine::Sqlite(engine) => engine.put(deliveries, at).await,
            }
        };
        self.calls.observe("put", Box::pin(work)).await
    }

    /// The same for bars of the log up to `cursor`, all to the endpoint `webhook_id`, whose cursor
    /// moves there with them, never back; `dropped` more were lost to it. A crash in between
    /// leaves the cursor, never the bars, behind.
    pub async fn put_logged(
        &self,
        webhook_id: Uuid,
        deliveries: Vec<NewDelivery>,
        cursor: u64,
        dropped: u64,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => {
                    engine.put_logged(webhook_id, deliveries, cursor, dropped, at).await
                }
                OutboxEngine::Sqlite(engine) => {
                    engine.put_logged(webhook_id, deliveries, cursor, dropped, at).await
                }
            }
        };
        self.calls.observe("put_logged", Box::pin(work)).await
    }

    /// Takes at most `limit` deliveries to `webhook_id` that are due at `now` and that nobody
    /// sends, the longest due first; they are the lease's. On the embedded engine, whose files
    /// belong to one process, every lease of another has lapsed.
    pub async fn claim(
        &self,
        webhook_id: Uuid,
        lease: Lease,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.claim(webhook_id, lease, now, limit).await,
                OutboxEngine::Sqlite(engine) => engine.claim(webhook_id, lease, now, limit).await,
            }
        };
        self.calls.observe("claim", Box::pin(work)).await
    }

    /// Writes down what became of tries. What has ended meanwhile stays as it ended, and a try that
    /// was written down before, as the answer to that was lost, does not count again.
    pub async fn settle(&self, settled: Vec<Settled>) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.settle(settled).await,
                OutboxEngine::Sqlite(engine) => engine.settle(settled).await,
            }
        };
        self.calls.observe("settle", Box::pin(work)).await
    }

    /// How much waits for `webhook_id`, at `now` by the clock that it is due by.
    pub async fn size(
        &self,
        webhook_id: Uuid,
        now: Timestamp,
    ) -> Result<OutboxSize, DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.size(webhook_id, now).await,
                OutboxEngine::Sqlite(engine) => engine.size(webhook_id, now).await,
            }
        };
        self.calls.observe("size", Box::pin(work)).await
    }

    /// Forgets all but the `ended` newest deliveries of `webhook_id` that have ended, and all but
    /// the `pending` newest that have not; the latter count as lost to it. Answers how many those
    /// were.
    pub async fn trim(
        &self,
        webhook_id: Uuid,
        ended: u32,
        pending: u32,
    ) -> Result<u64, DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.trim(webhook_id, ended, pending).await,
                OutboxEngine::Sqlite(engine) => engine.trim(webhook_id, ended, pending).await,
            }
        };
        self.calls.observe("trim", Box::pin(work)).await
    }

    /// Forgets deliveries of `webhook_id` that ended before `before`.
    pub async fn prune(&self, webhook_id: Uuid, before: Timestamp) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.prune(webhook_id, before).await,
                OutboxEngine::Sqlite(engine) => engine.prune(webhook_id, before).await,
            }
        };
        self.calls.observe("prune", Box::pin(work)).await
    }

    /// Deliveries to `webhook_id`, the newest first, behind `after`, at most `limit`.
    pub async fn list(
        &self,
        webhook_id: Uuid,
        after: Option<DeliveryPlace>,
        limit: u32,
    ) -> Result<Vec<Delivery>, DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.list(webhook_id, after, limit).await,
                OutboxEngine::Sqlite(engine) => engine.list(webhook_id, after, limit).await,
            }
        };
        self.calls.observe("list", Box::pin(work)).await
    }

    /// How the newest deliveries to `webhook_id` ended, at most `limit`, the newest first. What is
    /// pending says nothing: it may not have been tried.
    pub async fn ended(
        &self,
        webhook_id: Uuid,
        limit: u32,
    ) -> Result<Vec<DeliveryState>, DatabaseError> {
        let work = async {
            match &self.engine {
                OutboxEngine::MongoDb(engine) => engine.ended(webhook_id, limit).await,
                OutboxEngine::Sqlite(engine) => engine.ended(webhook_id, limit).await,
            }
        };
        self.calls.observe("ended", Box::pin(work)).await
    }
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// The word used in storage and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no state of a delivery"))
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
