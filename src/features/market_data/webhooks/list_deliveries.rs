//! List what is to be sent to a webhook, and what became of it.

use uuid::Uuid;

use super::{WebhookError, WebhookService};
use crate::common::mediator::{Handler, Request};
use crate::infrastructure::persistence::{Delivery, DeliveryPlace};

/// Which deliveries does this webhook have?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListDeliveries {
    /// Which webhook.
    pub webhook_id: Uuid,
    /// Rows a page.
    pub page_size: u32,
    /// The last delivery of the page before.
    pub after: Option<DeliveryPlace>,
}

/// A page of deliveries, the newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryPage {
    /// What was asked.
    pub query: ListDeliveries,
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Whether there are more.
    pub more: bool,
}

impl Request for ListDeliveries {
    type Output = DeliveryPage;
    type Error = WebhookError;
    const NAME: &'static str = "system.list_deliveries";
}

pub(super) struct ListDeliveriesHandler {
    pub(super) service: WebhookService,
}

impl Handler<ListDeliveries> for ListDeliveriesHandler {
    async fn handle(&self, query: ListDeliveries) -> Result<DeliveryPage, WebhookError> {
        let ListDeliveries { webhook_id, page_size, after } = query;
        let database = self.service.database();
        let webhooks = database.webhooks().list().await?;
        if !webhooks.iter().any(|webhook| webhook.id == webhook_id) {
            return Err(WebhookError::NotFound(webhook_id));
        }
        let outbox = database.webhook_outbox();
        let mut deliveries = outbox.list(webhook_id, after, page_size.saturating_add(1)).await?;
        let asked = usize::try_from(page_size).unwrap_or(usize::MAX);
        let more = deliveries.len() > asked;
        deliveries.truncate(asked);
        Ok(DeliveryPage { query, deliveries, more })
    }
}
