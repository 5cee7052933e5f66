//! Puts bars from the log into the outbox of each webhook that wants them.
//!
//! Each webhook has a place in the log, which moves with what is put: whatever dies when, no bar
//! is passed over. While much waits for a webhook it is left where it is.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tracing::warn;
use uuid::Uuid;

use super::WebhookService;
use super::webhook_service::RETRY_AFTER;
use crate::common::constants::MAX_WAITING_BARS;
use crate::common::metrics::table::WEBHOOK_EVENTS_LOST;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::{EventType, Series};
use crate::features::market_data::event_json;
use crate::infrastructure::persistence::{
    DatabaseError, LogBar, LogFilter, LogPage, NewDelivery, Webhook,
};

/// Bars that are put at a time.
const BATCH: u32 = 500;
/// What comes meanwhile is put together.
const PAUSE: Duration = Duration::from_millis(100);
/// Of entries that a webhook does not want, its stored place is at most so many behind.
const UNSTORED_STEPS: u64 = 1_000;

/// Puts bars into the outbox.
pub(super) struct BarFanOut {
    service: WebhookService,
    /// How far the log was looked at for each webhook; ahead of what is stored, or equal.
    places: HashMap<Uuid, u64>,
    /// Whether the database did not answer.
    is_away: bool,
}

impl BarFanOut {
    pub(super) fn new(service: WebhookService) -> Self {
        Self { service, places: HashMap::new(), is_away: false }
    }

    /// Works until the service stops.
    pub(super) async fn run(mut self) {
        let (service, mut changes) = (self.service.clone(), self.service.changes());
        let announcer = service.announcer();
        loop {
            let again = match self.round().await {
                Ok((has_webhooks, is_behind)) => {
                    self.is_away = false;
                    if is_behind { Some(PAUSE) } else { service.look_again(has_webhooks) }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_away, true) {
                        warn!(%error, "bars for webhooks wait in the log");
                    }
                    Some(RETRY_AFTER)
                }
            };
            let looking = async {
                match again {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = service.stopping().cancelled() => return,
                () = announcer.until_logged() => {}
                _ = changes.changed() => {}
                () = looking => {}
            }
            sleep(PAUSE).await;
        }
    }

    /// Puts what there is room for. Answers whether there are webhooks, and whether any is behind
    /// the log.
    async fn round(&mut self) -> Result<(bool, bool), DatabaseError> {
        let webhooks = self.service.webhooks().await?;
        let wanting: Vec<&Webhook> =
            webhooks.iter().filter(|webhook| wants_bars(webhook)).collect();
        self.places.retain(|id, _| wanting.iter().any(|webhook| webhook.id == *id));
        let (mut is_behind, mut has_put) = (false, false);
        if wanting.is_empty() {
            return Ok((!webhooks.is_empty(), false));
        }
        let newest = self.service.database().bar_log().head().await?.last();
        for webhook in wanting {
            let (put, behind) = self.put_for(webhook, newest).await?;
            has_put |= put;
            is_behind |= behind;
        }
        if has_put {
            self.service.announcer().was_put();
        }
        Ok((!webhooks.is_empty(), is_behind))
    }

    /// Puts a batch. Answers whether there was any, and whether there may be more.
    async fn put_for(
        &mut self,
        webhook: &Webhook,
        newest: u64,
    ) -> Result<(bool, bool), DatabaseError> {
        let database = self.service.database();
        let kept = self.places.get(&webhook.id).copied().unwrap_or_default();
        // One that was disabled and enabled meanwhile goes on where it was enabled.
        let place = kept.max(webhook.cursor);
        if newest <= place {
            return Ok((false, false));
        }
        let waiting = database.webhook_outbox().size(webhook.id, Timestamp::now()).await?.pending;
        let room = MAX_WAITING_BARS.saturating_sub(waiting);
        let limit = BATCH.min(u32::try_from(room).unwrap_or(BATCH));
        if limit == 0 {
            return Ok((false, true));
        }
        let filter =
            LogFilter { symbols: webhook.symbols.clone(), intervals: webhook.intervals.clone() };
        let page = database.bar_log().read(place, &filter, limit).await?;
        let lost = page.first.saturating_sub(place.saturating_add(1));
        let (examined, deliveries) =
            (page.examined.max(place), self.deliveries(webhook, page).await?);
        let has_put = !deliveries.is_empty();
        let unstored = examined.saturating_sub(webhook.cursor);
        if has_put || lost > 0 || unstored > UNSTORED_STEPS {
            self.put(webhook, deliveries, examined, lost).await?;
        }
        self.places.insert(webhook.id, examined);
        Ok((has_put, examined < newest))
    }

    async fn put(
        &self,
        webhook: &Webhook,
        deliveries: Vec<NewDelivery>,
        examined: u64,
        lost: u64,
    ) -> Result<(), DatabaseError> {
        if lost > 0 {
            WEBHOOK_EVENTS_LOST.with(["dropped"]).increment(lost);
            warn!(
                webhook_id = %webhook.id, count = lost,
                "{lost} bars left the log before webhook {} took them", webhook.id
            );
        }
        let outbox = self.service.database().webhook_outbox();
        outbox.put_logged(webhook.id, deliveries, examined, lost, Timestamp::now()).await
    }

    async fn deliveries(
        &self,
        webhook: &Webhook,
        page: LogPage,
    ) -> Result<Vec<NewDelivery>, DatabaseError> {
        let now = Timestamp::now();
        let mut clocks: HashMap<Series, BarClock> = HashMap::new();
        let mut deliveries = Vec::with_capacity(page.entries.len());
        for (_, LogBar { series, bar }) in page.entries {
            let event_type = event_json::bar_event(&bar);
            if !wants(webhook, event_type) {
                continue;
            }
            let range = if let Some(clock) = clocks.get_mut(&series) {
                clock.bounds_of(bar.open_time)
            } else {
                let session = self.service.sessions().of(&series.symbol).await?;
                let clock = BarClock::new(session, series.interval);
                clocks.entry(series.clone()).or_insert(clock).bounds_of(bar.open_time)
            };
            let (webhook_id, event_id) = (webhook.id, event_json::bar_id(&series, &bar));
            let body = event_json::bar_body(&series, range, &bar, now);
            deliveries.push(NewDelivery { webhook_id, event_id, event_type, body });
        }
        Ok(deliveries)
    }
}

fn wants_bars(webhook: &Webhook) -> bool {
    let types = EventType::ALL.into_iter().filter(|each| each.is_of_a_bar());
    webhook.disabled.is_none() && types.into_iter().any(|each| wants(webhook, each))
}

fn wants(webhook: &Webhook, event_type: EventType) -> bool {
    webhook.event_types.is_empty() || webhook.event_types.contains(&event_type)
}
