//! Forget a webhook.

use uuid::Uuid;

use super::{WebhookError, WebhookService};
use crate::common::mediator::{Handler, Request};

/// Forget this webhook, and all that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteWebhook {
    /// Which.
    pub webhook_id: Uuid,
}

impl Request for DeleteWebhook {
    type Output = ();
    type Error = WebhookError;
    const NAME: &'static str = "system.delete_webhook";
}

pub(super) struct DeleteWebhookHandler {
    pub(super) service: WebhookService,
}

impl Handler<DeleteWebhook> for DeleteWebhookHandler {
    async fn handle(&self, command: DeleteWebhook) -> Result<(), WebhookError> {
        let webhooks = self.service.database().webhooks();
        if !webhooks.delete(command.webhook_id).await? {
            return Err(WebhookError::NotFound(command.webhook_id));
        }
        self.service.changed();
        Ok(())
    }
}
