//! List the webhooks.

use super::{WebhookError, WebhookService};
use crate::common::mediator::{Handler, Request};
use crate::infrastructure::persistence::Webhook;

/// Which webhooks are there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListWebhooks;

impl Request for ListWebhooks {
    type Output = Vec<Webhook>;
    type Error = WebhookError;
    const NAME: &'static str = "system.list_webhooks";
}

pub(super) struct ListWebhooksHandler {
    pub(super) service: WebhookService,
}

impl Handler<ListWebhooks> for ListWebhooksHandler {
    async fn handle(&self, _: ListWebhooks) -> Result<Vec<Webhook>, WebhookError> {
        Ok(self.service.database().webhooks().list().await?)
    }
}
