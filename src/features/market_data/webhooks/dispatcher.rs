//! Sends what is due, so many at a time, and writes down what came of it.

use std::collections::HashMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};
use uuid::Uuid;

use super::WebhookService;
use super::endpoint::Endpoint;
use super::webhook_service::RETRY_AFTER;
use crate::common::constants::{KEPT_DELIVERIES, MAX_WAITING_EVENTS};
use crate::common::metrics::table::{
    WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS_LOST, WEBHOOK_OUTBOX, WEBHOOK_OUTBOX_OLDEST, WEBHOOKS,
};
use crate::infrastructure::persistence::{
    DatabaseError, Delivery, DeliveryState, OutboxSize, Settled, Webhook,
};
use crate::infrastructure::webhooks::{Attempt, FailureKind, Message};

/// Events that are sent at a time, to all webhooks together.
const AT_ONCE: usize = 128;
/// How long what is being sent may take when the service stops; what takes longer is sent again.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Where none of the newest deliveries that ended was taken, one that has failed disables the
/// webhook.
const NEWEST: u32 = 100;
/// What a webhook that answers 410 is disabled for.
const GONE: &str = "it answered 410 (Gone)";
/// What a webhook that takes nothing is disabled for.
const DEAD: &str = "an event was tried to the end, and none of the newest that ended was taken";

/// A try that ended.
struct Sent {
    delivery: Delivery,
    attempt: Attempt,
}

/// Sends; one a process.
pub(super) struct Dispatcher {
    service: WebhookService,
    endpoints: HashMap<Uuid, Endpoint>,
    sending: FuturesUnordered<BoxFuture<'static, Sent>>,
    /// What came of tries and is not written down yet.
    unsettled: Vec<Settled>,
    /// When the list of webhooks is read again; never where nothing can change unheard.
    refresh_at: Option<Instant>,
    /// Whether the database did not answer.
    is_away: bool,
}

impl Dispatcher {
    pub(super) fn new(service: WebhookService) -> Self {
        Self {
            service,
            endpoints: HashMap::new(),
            sending: FuturesUnordered::new(),
            unsettled: Vec::new(),
            refresh_at: Some(Instant::now()),
            is_away: false,
        }
    }

    /// Works until the service stops, and what is being sent has ended.
    pub(super) async fn run(mut self) {
        let (service, mut changes) = (self.service.clone(), self.service.changes());
        let (stopping, announcer) = (service.stopping(), service.announcer());
        count_from_zero();
        while !stopping.is_cancelled() {
            let wake_at = match self.work().await {
                Ok(()) => {
                    self.is_away = false;
                    self.wake_at()
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_away, true) {
                        warn!(%error, "webhooks wait: what is due cannot be read");
                    }
                    Some(Instant::now() + RETRY_AFTER)
                }
            };
            let waking = async {
                match wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                Some(sent) = self.sending.next() => self.take(sent).await,
                () = announcer.until_put() => self.look_soon(),
                _ = changes.changed() => self.refresh_at = Some(Instant::now()),
                () = waking => {}
            }
        }
        self.finish().await;
    }

    /// Writes down what came of tries, and begins to send what is due.
    async fn work(&mut self) -> Result<(), DatabaseError> {
        self.settle().await?;
        if self.refresh_at.is_some_and(|at| at <= Instant::now()) {
            self.refresh().await?;
        }
        let ids: Vec<Uuid> = self.endpoints.keys().copied().collect();
        for id in ids {
            self.claim(id).await?;
        }
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        let able = self.endpoints.values().filter(|each| each.room() > 0);
        let looks = able.filter_map(|endpoint| endpoint.look_at);
        let looks = looks.filter(|_| self.sending.len() < AT_ONCE);
        looks.chain(self.refresh_at).min()
    }

    fn look_soon(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.look_at = Some(Instant::now());
        }
    }

    /// Reads the webhooks anew, tidies up behind them, and tells metrics.
    async fn refresh(&mut self) -> Result<(), DatabaseError> {
        let webhooks = self.service.webhooks().await?;
        let is_enabled = |webhook: &&Webhook| webhook.disabled.is_none();
        let enabled: Vec<&Webhook> = webhooks.iter().filter(is_enabled).collect();
        self.endpoints.retain(|id, _| enabled.iter().any(|webhook| webhook.id == *id));
        for webhook in &enabled {
            if self.endpoints.contains_key(&webhook.id) {
                continue;
            }
            match Endpoint::new(webhook) {
                Ok(endpoint) => drop(self.endpoints.insert(webhook.id, endpoint)),
                Err(error) => {
                    warn!(webhook_id = %webhook.id, %error, "the secret of a webhook is unusable");
                }
            }
        }
        let mut all = OutboxSize::default();
        for webhook in &webhooks {
            let size = self.tidied(webhook.id).await?;
            all.pending += size.pending;
            all.oldest = all.oldest.into_iter().chain(size.oldest).min();
        }
        observe(enabled.len(), webhooks.len() - enabled.len(), all);
        let again = self.service.look_again(!webhooks.is_empty());
        self.refresh_at = again.map(|wait| Instant::now() + wait);
        self.look_soon();
        Ok(())
    }

    /// Forgets what is too old or too much of a webhook; answers how much waits for it.
    async fn tidied(&mut self, id: Uuid) -> Result<OutboxSize, DatabaseError> {
        let outbox = self.service.database().webhook_outbox();
        let untidy = self.endpoints.get_mut(&id).map(|each| std::mem::take(&mut each.is_untidy));
        let size = outbox.size(id, Timestamp::now()).await?;
        if untidy != Some(true) && size.pending <= u64::from(MAX_WAITING_EVENTS) {
            return Ok(size);
        }
        let dropped = outbox.trim(id, KEPT_DELIVERIES, MAX_WAITING_EVENTS).await?;
        if dropped > 0 {
            WEBHOOK_EVENTS_LOST.with(["dropped"]).increment(dropped);
            warn!(webhook_id = %id, count = dropped, "{dropped} events for webhook {id} are dropped");
        }
        Ok(OutboxSize { pending: size.pending - dropped.min(size.pending), ..size })
    }

    /// Begins to send what is due to a webhook, as far as there is room.
    async fn claim(&mut self, id: Uuid) -> Result<(), DatabaseError> {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return Ok(()) };
        let room = endpoint.room().min(AT_ONCE.saturating_sub(self.sending.len()));
        if room == 0 || endpoint.look_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let outbox = self.service.database().webhook_outbox();
        let (lease, limit) = (self.service.lease(), u32::try_from(room).unwrap_or(u32::MAX));
        let claimed = outbox.claim(id, lease, Timestamp::now(), limit).await?;
        if claimed.len() < room {
            let due = outbox.size(id, Timestamp::now()).await?.due;
            endpoint.look_at = due.map(|due| Instant::now() + until(due));
        }
        endpoint.is_untidy |= !claimed.is_empty();
        for delivery in claimed {
            endpoint.sending += 1;
            let (service, url) = (self.service.clone(), std::sync::Arc::clone(&endpoint.url));
            let secret = endpoint.secret.clone();
            let message = Message { id: delivery.event_id, body: delivery.body.clone() };
            let send = async move {
                let attempt = service.sender().send(&url, &secret, &message).await;
                WEBHOOK_ATTEMPTS.with([outcome(&attempt)]).increment(1);
                Sent { delivery, attempt }
            };
            self.sending.push(send.boxed());
        }
        Ok(())
    }

    /// Takes in what came of a try, and of all others that have ended too.
    async fn take(&mut self, first: Sent) {
        self.judge(first).await;
        while let Some(Some(sent)) = self.sending.next().now_or_never() {
            self.judge(sent).await;
        }
    }

    async fn judge(&mut self, Sent { delivery, attempt }: Sent) {
        let id = delivery.webhook_id;
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.sending = endpoint.sending.saturating_sub(1);
            endpoint.failing = !matches!(attempt, Attempt::Taken { .. });
        }
        let settled = self.settled(&delivery, &attempt);
        if settled.state == DeliveryState::Failed {
            WEBHOOK_EVENTS_LOST.with(["failed"]).increment(1);
        }
        if let Some(at) =
            (settled.state == DeliveryState::Pending).then_some(settled.next_attempt_at)
            && let Some(endpoint) = self.endpoints.get_mut(&id)
        {
            let due = Instant::now() + until(at);
            endpoint.look_at = Some(endpoint.look_at.map_or(due, |look| look.min(due)));
        }
        let has_failed = settled.state == DeliveryState::Failed;
        self.unsettled.push(settled);
        if matches!(attempt, Attempt::Gone) {
            self.disable(id, GONE).await;
        } else if has_failed && self.is_dead(id).await {
            self.disable(id, DEAD).await;
        }
    }

    /// How a delivery stands after a try.
    fn settled(&self, delivery: &Delivery, attempt: &Attempt) -> Settled {
        let (now, attempts) = (Timestamp::now(), delivery.attempts.saturating_add(1));
        let settled = |state, status, error: &str| Settled {
            webhook_id: delivery.webhook_id,
            event_id: delivery.event_id,
            attempt: attempts,
            state,
            at: now,
            next_attempt_at: now,
            status,
            error: error.to_owned(),
        };
        match attempt {
            Attempt::Taken { status } => settled(DeliveryState::Delivered, Some(*status), ""),
            Attempt::Gone => settled(DeliveryState::Failed, Some(410), GONE),
            Attempt::Failed(failure) => {
                let wait = self.service.pace().wait(attempts, failure.retry_after);
                let Some(wait) = wait else {
                    return settled(DeliveryState::Failed, failure.status, &failure.error);
                };
                let next = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
                let pending = settled(DeliveryState::Pending, failure.status, &failure.error);
                Settled { next_attempt_at: next, ..pending }
            }
        }
    }

    /// Whether a webhook took none of what it was sent last. What waits is no sign of that.
    async fn is_dead(&mut self, id: Uuid) -> bool {
        let outbox = self.service.database().webhook_outbox();
        let newest = outbox.ended(id, NEWEST).await;
        newest.is_ok_and(|newest| !newest.contains(&DeliveryState::Delivered))
            && !self
                .unsettled
                .iter()
                .any(|each| each.webhook_id == id && each.state == DeliveryState::Delivered)
    }

    async fn disable(&mut self, id: Uuid, why: &str) {
        let webhooks = self.service.database().webhooks();
        match webhooks.disable(id, Timestamp::now(), why).await {
            Ok(true) => warn!(webhook_id = %id, reason = why, "webhook {id} is disabled: {why}"),
            Ok(false) => {}
            Err(error) => {
                // What is sent to it next says so again.
                warn!(webhook_id = %id, %error, "webhook {id} could not be disabled");
                return;
            }
        }
        self.endpoints.remove(&id);
        self.service.changed();
    }

    /// Writes down what came of tries.
    async fn settle(&mut self) -> Result<(), DatabaseError> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let outbox = self.service.database().webhook_outbox();
        outbox.settle(self.unsettled.clone()).await?;
        self.unsettled.clear();
        Ok(())
    }

    /// Lets what is being sent come to its end. What does not is sent again by whoever comes next.
    async fn finish(&mut self) {
        let all = async {
            while let Some(sent) = self.sending.next().await {
                self.judge(sent).await;
            }
        };
        if timeout(STOP_WITHIN, all).await.is_err() {
            let left = self.sending.len();
            info!(count = left, "stopping: {left} webhook calls are given up; they are made again");
        }
        if let Err(error) = self.settle().await {
            warn!(%error, "what became of webhook calls was not stored; they are made again");
        }
    }
}

/// The word in metrics.
const fn outcome(attempt: &Attempt) -> &'static str {
    match attempt {
        Attempt::Taken { .. } => "delivered",
        Attempt::Gone => "gone",
        Attempt::Failed(failure) => match failure.kind {
            FailureKind::Answered => "answered",
            FailureKind::Timeout => "timeout",
            FailureKind::Unreachable => "unreachable",
            FailureKind::Refused => "refused",
        },
    }
}

/// Shows what can be counted before there is anything to count.
fn count_from_zero() {
    for outcome in ["delivered", "answered", "timeout", "unreachable", "refused", "gone"] {
        WEBHOOK_ATTEMPTS.with([outcome]).increment(0);
    }
    for reason in ["failed", "dropped", "untold"] {
        WEBHOOK_EVENTS_LOST.with([reason]).increment(0);
    }
}

fn observe(enabled: usize, disabled: usize, size: OutboxSize) {
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    WEBHOOKS.with(["enabled"]).set(number(enabled as u64));
    WEBHOOKS.with(["disabled"]).set(number(disabled as u64));
    WEBHOOK_OUTBOX.handle().set(number(size.pending));
    let oldest = size.oldest.map_or(0.0, |oldest| {
        Duration::try_from(oldest.duration_since(Timestamp::UNIX_EPOCH))
            .map_or(0.0, |at| at.as_secs_f64())
    });
    WEBHOOK_OUTBOX_OLDEST.handle().set(oldest);
}

/// How long it is until then.
fn until(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}
