//! Sends events to URLs that callers name, and lists them.
//!
//! What waits is in a persisted outbox. `bar_fan_out` puts bars into it from the bar log, the
//! announcer all else; `dispatcher` sends what is due, and `endpoint` says how much at a time.

mod bar_fan_out;
mod create_webhook;
mod delete_webhook;
mod dispatcher;
mod enable_webhook;
mod endpoint;
mod list_deliveries;
mod list_events;
mod list_webhooks;
mod pace;
mod webhook_error;
mod webhook_service;
mod wire;

pub use create_webhook::{CreateWebhook, CreatedWebhook};
pub use delete_webhook::DeleteWebhook;
pub use enable_webhook::EnableWebhook;
pub use list_deliveries::{DeliveryPage, ListDeliveries};
pub use list_events::ListEvents;
pub use list_webhooks::ListWebhooks;
pub use pace::WebhookPace;
pub use webhook_error::WebhookError;
pub use webhook_service::WebhookService;
pub use wire::withhold_secret;

use self::create_webhook::CreateWebhookHandler;
use self::delete_webhook::DeleteWebhookHandler;
use self::enable_webhook::EnableWebhookHandler;
use self::list_deliveries::ListDeliveriesHandler;
use self::list_events::ListEventsHandler;
use self::list_webhooks::ListWebhooksHandler;
use crate::common::mediator::MediatorBuilder;

/// Adds this slice's handlers.
pub fn register(mediator: MediatorBuilder, service: &WebhookService) -> MediatorBuilder {
    let service = || service.clone();
    mediator
        .register(CreateWebhookHandler { service: service() })
        .register(ListWebhooksHandler { service: service() })
        .register(EnableWebhookHandler { service: service() })
        .register(DeleteWebhookHandler { service: service() })
        .register(ListDeliveriesHandler { service: service() })
        .register(ListEventsHandler { announcer: service().announcer().clone() })
}
