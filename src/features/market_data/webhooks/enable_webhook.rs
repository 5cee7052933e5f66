//! Send to a disabled webhook again.

use uuid::Uuid;

use super::{WebhookError, WebhookService};
use crate::common::mediator::{Handler, Request};
use crate::infrastructure::persistence::Webhook;

/// Send to this webhook again: what waits for it, and events from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnableWebhook {
    /// Which.
    pub webhook_id: Uuid,
}

impl Request for EnableWebhook {
    type Output = Webhook;
    type Error = WebhookError;
    const NAME: &'static str = "system.enable_webhook";
}

pub(super) struct EnableWebhookHandler {
    pub(super) service: WebhookService,
}

impl Handler<EnableWebhook> for EnableWebhookHandler {
    async fn handle(&self, command: EnableWebhook) -> Result<Webhook, WebhookError> {
        let database = self.service.database();
        let cursor = database.bar_log().head().await?.last();
        let enabled = database.webhooks().enable(command.webhook_id, cursor).await?;
        let enabled = enabled.ok_or(WebhookError::NotFound(command.webhook_id))?;
        self.service.changed();
        Ok(enabled)
    }
}
