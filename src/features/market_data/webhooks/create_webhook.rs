//! Have events sent to a URL.

use jiff::Timestamp;
use uuid::Uuid;

use super::{WebhookError, WebhookService};
use crate::common::constants::MAX_WEBHOOKS;
use crate::common::error::InvalidFields;
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::{EventType, Interval, Symbol};
use crate::infrastructure::persistence::Webhook;
use crate::infrastructure::webhooks::{WebhookSecret, WebhookUrl};

/// Send events to `url` from now on. `Debug` shows neither its path nor the secret.
#[derive(Clone, Debug)]
pub struct CreateWebhook {
    /// Where to.
    pub url: WebhookUrl,
    /// Only events of these types; all where there are none.
    pub event_types: Vec<EventType>,
    /// Only events about these symbols; all where there are none.
    pub symbols: Vec<Symbol>,
    /// Only events about these intervals; all where there are none.
    pub intervals: Vec<Interval>,
    /// What to sign with; made where there is none.
    pub secret: Option<WebhookSecret>,
    /// What it is for.
    pub description: String,
}

/// A new webhook: the only answer that shows its secret.
#[derive(Clone, Debug)]
pub struct CreatedWebhook(pub Webhook);

impl Request for CreateWebhook {
    type Output = CreatedWebhook;
    type Error = WebhookError;
    const NAME: &'static str = "system.create_webhook";
}

pub(super) struct CreateWebhookHandler {
    pub(super) service: WebhookService,
}

impl Handler<CreateWebhook> for CreateWebhookHandler {
    async fn handle(&self, command: CreateWebhook) -> Result<CreatedWebhook, WebhookError> {
        let database = self.service.database();
        self.service
            .sender()
            .check(&command.url)
            .map_err(|refused| InvalidFields::new("url", refused.to_string()))?;
        if database.webhooks().list().await?.len() >= MAX_WEBHOOKS {
            return Err(WebhookError::TooMany);
        }
        // As it is kept, so that every answer says the same.
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond());
        let secret = command.secret.unwrap_or_else(WebhookSecret::generate);
        let webhook = Webhook {
            id: Uuid::now_v7(),
            url: command.url.as_url().to_string(),
            description: command.description,
            event_types: command.event_types,
            symbols: command.symbols,
            intervals: command.intervals,
            secret: secret.expose().clone(),
            created_at: now.unwrap_or_default(),
            disabled: None,
            cursor: database.bar_log().head().await?.last(),
            dropped: 0,
        };
        database.webhooks().insert(&webhook).await?;
        self.service.changed();
        Ok(CreatedWebhook(webhook))
    }
}
