//! Protobuf to commands and queries, webhooks and events to protobuf.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::{
    CreateWebhook, CreatedWebhook, DeleteWebhook, DeliveryPage, EnableWebhook, ListDeliveries,
    ListEvents, ListWebhooks, WebhookError,
};
use crate::common::constants::{
    DEFAULT_EVENTS_LIMIT, LISTED_EVENTS, MAX_STREAM_SYMBOLS, MAX_WEBHOOK_DESCRIPTION,
};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::domain::shared::{EventType, Symbol};
use crate::features::market_data::page_token::{self, PageTokenInvalid};
use crate::features::market_data::wire::{
    ReadFields as _, count, interval, interval_from_pb, page_size, timestamp,
};
use crate::features::market_data::{Announced, event_json};
use crate::infrastructure::persistence::{Delivery, DeliveryPlace, DeliveryState, Webhook};
use crate::infrastructure::webhooks::{WebhookSecret, WebhookUrl};
use crate::proto::v1 as pb;

impl TryFrom<pb::CreateWebhookRequest> for CreateWebhook {
    type Error = InvalidFields;

    fn try_from(request: pb::CreateWebhookRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let url = violations.check("url", WebhookUrl::parse(&request.url));
        let mut event_types = Vec::new();
        for (index, name) in request.event_types.iter().enumerate() {
            let known = violations.check(&format!("event_types[{index}]"), name.parse());
            event_types.extend(known.filter(|known: &EventType| !event_types.contains(known)));
        }
        if request.symbols.len() > MAX_STREAM_SYMBOLS {
            violations.push("symbols", format!("must be {MAX_STREAM_SYMBOLS} at most"));
        }
        let mut symbols = Vec::new();
        for (index, name) in request.symbols.iter().take(MAX_STREAM_SYMBOLS).enumerate() {
            symbols.extend(violations.check(&format!("symbols[{index}]"), Symbol::parse(name)));
        }
        let mut intervals = Vec::new();
        for (index, value) in request.intervals.iter().enumerate() {
            match pb::Interval::try_from(*value).ok().and_then(interval_from_pb) {
                Some(known) if intervals.contains(&known) => {}
                Some(known) => intervals.push(known),
                None => violations.push(format!("intervals[{index}]"), "must be an interval"),
            }
        }
        let secret = request.secret.as_deref().map(WebhookSecret::parse);
        let secret = secret.and_then(|secret| violations.check("secret", secret));
        if request.description.chars().count() > MAX_WEBHOOK_DESCRIPTION {
            let most = format!("must have {MAX_WEBHOOK_DESCRIPTION} characters at most");
            violations.push("description", most);
        }
        let description = request.description;
        violations.finish(url.map(|url| Self {
            url,
            event_types,
            symbols,
            intervals,
            secret,
            description,
        }))
    }
}

impl From<CreatedWebhook> for pb::Webhook {
    fn from(CreatedWebhook(webhook): CreatedWebhook) -> Self {
        let secret = webhook.secret.expose_secret().to_owned();
        Self { secret, ..webhook.into() }
    }
}

/// The answer of `CreateWebhook` as it may be kept.
pub fn withhold_secret(webhook: &mut pb::Webhook) {
    webhook.secret.clear();
}

impl From<Webhook> for pb::Webhook {
    fn from(webhook: Webhook) -> Self {
        let (disabled_at, why) = webhook.disabled.unzip();
        Self {
            webhook_id: webhook.id.to_string(),
            url: webhook.url,
            event_types: webhook.event_types.iter().map(ToString::to_string).collect(),
            symbols: webhook.symbols.iter().map(ToString::to_string).collect(),
            intervals: webhook.intervals.into_iter().map(|each| interval(each).into()).collect(),
            description: webhook.description,
            create_time: Some(timestamp(webhook.created_at)),
            disable_time: disabled_at.map(timestamp),
            disable_reason: why.unwrap_or_default(),
            dropped: count(webhook.dropped),
            secret: String::new(),
        }
    }
}

impl From<pb::ListWebhooksRequest> for ListWebhooks {
    fn from(_: pb::ListWebhooksRequest) -> Self {
        Self
    }
}

impl From<Vec<Webhook>> for pb::ListWebhooksResponse {
    fn from(webhooks: Vec<Webhook>) -> Self {
        Self { webhooks: webhooks.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<pb::EnableWebhookRequest> for EnableWebhook {
    type Error = InvalidFields;

    fn try_from(request: pb::EnableWebhookRequest) -> Result<Self, InvalidFields> {
        webhook_id(&request.webhook_id).map(|webhook_id| Self { webhook_id })
    }
}

impl TryFrom<pb::DeleteWebhookRequest> for DeleteWebhook {
    type Error = InvalidFields;

    fn try_from(request: pb::DeleteWebhookRequest) -> Result<Self, InvalidFields> {
        webhook_id(&request.webhook_id).map(|webhook_id| Self { webhook_id })
    }
}

impl TryFrom<pb::ListDeliveriesRequest> for ListDeliveries {
    type Error = WebhookError;

    fn try_from(request: pb::ListDeliveriesRequest) -> Result<Self, WebhookError> {
        let mut violations = FieldViolations::default();
        let id = read_webhook_id(&mut violations, &request.webhook_id);
        let page_size = page_size(&mut violations, request.page_size);
        let webhook_id = violations.finish(id)?;
        let position = page_token::decode(&binding(&webhook_id.to_string()), &request.page_token)?;
        let after =
            position.map(|position| place(&position).ok_or(PageTokenInvalid)).transpose()?;
        Ok(Self { webhook_id, page_size, after })
    }
}

impl From<DeliveryPage> for pb::ListDeliveriesResponse {
    fn from(page: DeliveryPage) -> Self {
        let webhook_id = page.query.webhook_id.to_string();
        let last = page.deliveries.last().filter(|_| page.more);
        let next = last.map(|last| {
            let at = last.created_at.as_millisecond();
            page_token::encode(&binding(&webhook_id), &format!("{at} {}", last.event_id))
        });
        Self {
            next_page_token: next.unwrap_or_default(),
            deliveries: page.deliveries.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Delivery> for pb::Delivery {
    fn from(delivery: Delivery) -> Self {
        let (state, is_pending) = match delivery.state {
            DeliveryState::Pending => (pb::DeliveryState::Pending, true),
            DeliveryState::Delivered => (pb::DeliveryState::Delivered, false),
            DeliveryState::Failed => (pb::DeliveryState::Failed, false),
        };
        Self {
            event_id: delivery.event_id.to_string(),
            event_type: delivery.event_type.to_string(),
            state: state.into(),
            attempts: count(delivery.attempts.into()),
            create_time: Some(timestamp(delivery.created_at)),
            next_attempt_time: is_pending.then(|| timestamp(delivery.next_attempt_at)),
            end_time: delivery.ended_at.map(timestamp),
            status_code: delivery.status.map(Into::into),
            error: delivery.error,
        }
    }
}

impl TryFrom<pb::ListEventsRequest> for ListEvents {
    type Error = InvalidFields;

    fn try_from(request: pb::ListEventsRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let limit = violations.count("limit", request.limit, DEFAULT_EVENTS_LIMIT, LISTED_EVENTS);
        violations.finish(Some(Self { limit }))
    }
}

impl From<Vec<Arc<Announced>>> for pb::ListEventsResponse {
    fn from(events: Vec<Arc<Announced>>) -> Self {
        Self { events: events.iter().map(|event| event_of(event)).collect() }
    }
}

fn event_of(announced: &Announced) -> pb::Event {
    let id = announced.correlation_id.as_ref().map(ToString::to_string);
    pb::Event {
        id: announced.id.to_string(),
        r#type: announced.event.payload.event_type().to_string(),
        time: Some(timestamp(announced.event.time)),
        correlation_id: id.unwrap_or_default(),
        payload: event_json::data(&announced.event.payload).to_string(),
    }
}

fn webhook_id(text: &str) -> Result<Uuid, InvalidFields> {
    let mut violations = FieldViolations::default();
    let id = read_webhook_id(&mut violations, text);
    violations.finish(id)
}

fn read_webhook_id(violations: &mut FieldViolations, text: &str) -> Option<Uuid> {
    let id = text.parse::<Uuid>().ok();
    if id.is_none() {
        violations.push("webhook_id", "must be an id that CreateWebhook or ListWebhooks gave");
    }
    id
}

const fn binding(webhook_id: &str) -> [&str; 2] {
    ["deliveries", webhook_id]
}

/// The place that its text names.
fn place(text: &str) -> Option<DeliveryPlace> {
    let (at, event) = text.split_once(' ')?;
    let created_at = Timestamp::from_millisecond(at.parse().ok()?).ok()?;
    Some(DeliveryPlace { created_at, event_id: event.parse().ok()? })
}
