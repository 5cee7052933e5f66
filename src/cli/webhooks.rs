//! `webhooks`: where the server sends events to.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::key::KeyOption;
use super::names::{interval, interval_parser, interval_text};
use super::output::{Align, Output, Rows};
use super::times::show_time;
use crate::common::constants::MAX_PAGE_SIZE;
use crate::domain::shared::Interval;
use crate::proto::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, Delivery, DeliveryState, EnableWebhookRequest,
    ListDeliveriesRequest, ListWebhooksRequest, Webhook,
};

/// Send events to URLs, and see what became of them
#[derive(Debug, Args)]
pub(super) struct Webhooks {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Box<Create>),
    List(List),
    Enable(Enable),
    Delete(Delete),
    Deliveries(Deliveries),
}

/// Send events to a URL from now on, and print the secret that they are signed with
///
/// Messages are signed as Standard Webhooks has it; the secret is not shown again.
#[derive(Debug, Args)]
struct Create {
    /// Where to: `https://HOST/PATH`
    url: String,
    /// Only events of this type, e.g. `bar.closed`; may be given often
    #[arg(long = "event", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Only events about this symbol, as EXCHANGE:CODE; may be given often
    #[arg(long = "symbol", value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// Only events about this interval; may be given often
    #[arg(long = "interval", value_name = "INTERVAL", value_parser = interval_parser())]
    intervals: Vec<Interval>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value_t)]
    description: String,
    // Others can read a command line.
    /// Sign with the secret in this file (`whsec_...`) instead of a new one
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    key: KeyOption,
}

/// Show all webhooks
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    shared: Shared,
}

/// Send to a disabled webhook again
#[derive(Debug, Args)]
struct Enable {
    /// Which: the id that `webhooks list` shows
    webhook_id: String,
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    key: KeyOption,
}

/// Forget a webhook, and all that waits for it
#[derive(Debug, Args)]
struct Delete {
    /// Which: the id that `webhooks list` shows
    webhook_id: String,
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    key: KeyOption,
}

/// Show what is to be sent to a webhook, and what became of it, the newest first
#[derive(Debug, Args)]
struct Deliveries {
    /// Which: the id that `webhooks list` shows
    webhook_id: String,
    /// Deliveries at most
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Args)]
struct Shared {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Webhooks {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Create(create) => create.run(outer).await,
            Action::List(list) => list.run(outer).await,
            Action::Enable(enable) => enable.run(outer).await,
            Action::Delete(delete) => delete.run(outer).await,
            Action::Deliveries(deliveries) => deliveries.run(outer).await,
        }
    }
}

impl Create {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let secret = self.secret_file.as_deref().map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read `{}`", path.display()))?;
            anyhow::Ok(text.trim().to_owned())
        });
        let request = CreateWebhookRequest {
            url: self.url,
            event_types: self.event_types,
            symbols: self.symbols,
            intervals: self.intervals.into_iter().map(|each| interval(each).into()).collect(),
            secret: secret.transpose()?,
            description: self.description,
        };
        let client = Client::connect(self.shared.client.or(outer)).await?;
        let call = self.key.whole().on(client.request(request));
        let created = client.answer(client.system().create_webhook(call)).await?;
        let mut output = Output::stdout();
        if self.shared.json {
            output.json(&JsonWebhook::from(&created))?;
        } else {
            output.line(format!("webhook {}", created.webhook_id))?;
            match created.secret.as_str() {
                "" => output.line("its secret was shown when it was created")?,
                secret => output.line(format!("secret  {secret}"))?,
            }
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.shared.client.or(outer)).await?;
        let request = client.request(ListWebhooksRequest {});
        let listed = client.answer(client.system().list_webhooks(request)).await?.webhooks;
        show(&listed, self.shared.json)
    }
}

impl Enable {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.shared.client.or(outer)).await?;
        let request = client.request(EnableWebhookRequest { webhook_id: self.webhook_id });
        let request = self.key.whole().on(request);
        let enabled = client.answer(client.system().enable_webhook(request)).await?;
        show(&[enabled], self.shared.json)
    }
}

impl Delete {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.or(outer)).await?;
        let request = client.request(DeleteWebhookRequest { webhook_id: self.webhook_id });
        let request = self.key.whole().on(request);
        client.answer(client.system().delete_webhook(request)).await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Deliveries {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.shared.client.or(outer)).await?;
        let (page_size, page_token) = (MAX_PAGE_SIZE, String::new());
        let webhook_id = self.webhook_id;
        let mut request = ListDeliveriesRequest { webhook_id, page_size, page_token };
        let mut deliveries = Vec::new();
        loop {
            let call = client.request(request.clone());
            let page = client.answer(client.system().list_deliveries(call)).await?;
            deliveries.extend(page.deliveries);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() || deliveries.len() >= self.limit {
                break;
            }
        }
        deliveries.truncate(self.limit);
        let mut output = Output::stdout();
        if self.shared.json {
            output.json(&deliveries.iter().map(JsonDelivery::from).collect::<Vec<_>>())?;
        } else {
            output.table(&delivery_table(&deliveries))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn show(webhooks: &[Webhook], json: bool) -> anyhow::Result<ExitCode> {
    let mut output = Output::stdout();
    if json {
        output.json(&webhooks.iter().map(JsonWebhook::from).collect::<Vec<_>>())?;
    } else {
        output.table(&webhook_table(webhooks))?;
    }
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn webhook_table(webhooks: &[Webhook]) -> Rows {
    use Align::{Left, Right};
    let mut rows = Rows::new(&[
        ("id", Left),
        ("url", Left),
        ("events", Left),
        ("since", Left),
        ("lost", Right),
        ("disabled", Left),
        ("description", Left),
    ]);
    for webhook in webhooks {
        let events = webhook.event_types.join(" ");
        let disabled = show_time(webhook.disable_time);
        let disabled = format!("{disabled} {}", webhook.disable_reason);
        rows.push(vec![
            webhook.webhook_id.clone(),
            webhook.url.clone(),
            if events.is_empty() { "all".to_owned() } else { events },
            show_time(webhook.create_time),
            webhook.dropped.to_string(),
            disabled.trim().to_owned(),
            webhook.description.clone(),
        ]);
    }
    rows
}

fn delivery_table(deliveries: &[Delivery]) -> Rows {
    use Align::{Left, Right};
    let mut rows = Rows::new(&[
        ("event", Left),
        ("type", Left),
        ("state", Left),
        ("tries", Right),
        ("status", Right),
        ("since", Left),
        ("next", Left),
        ("error", Left),
    ]);
    for delivery in deliveries {
        rows.push(vec![
            delivery.event_id.clone(),
            delivery.event_type.clone(),
            state_text(delivery.state).to_owned(),
            delivery.attempts.to_string(),
            delivery.status_code.map(|status| status.to_string()).unwrap_or_default(),
            show_time(delivery.create_time),
            show_time(delivery.next_attempt_time),
            delivery.error.clone(),
        ]);
    }
    rows
}

fn state_text(value: i32) -> &'static str {
    match DeliveryState::try_from(value) {
        Ok(DeliveryState::Pending) => "pending",
        Ok(DeliveryState::Delivered) => "delivered",
        Ok(DeliveryState::Failed) => "failed",
        Ok(DeliveryState::Unspecified) | Err(_) => "unknown",
    }
}

/// A webhook for programs. Absent is what it does not have.
#[derive(Serialize)]
struct JsonWebhook<'a> {
    webhook_id: &'a str,
    url: &'a str,
    event_types: &'a [String],
    symbols: &'a [String],
    intervals: Vec<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    create_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    disable_time: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    disable_reason: &'a str,
    dropped: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    secret: &'a str,
}

impl<'a> From<&'a Webhook> for JsonWebhook<'a> {
    fn from(webhook: &'a Webhook) -> Self {
        Self {
            webhook_id: &webhook.webhook_id,
            url: &webhook.url,
            event_types: &webhook.event_types,
            symbols: &webhook.symbols,
            intervals: webhook.intervals.iter().map(|each| interval_text(*each)).collect(),
            description: &webhook.description,
            create_time: show_time(webhook.create_time),
            disable_time: show_time(webhook.disable_time),
            disable_reason: &webhook.disable_reason,
            dropped: webhook.dropped,
            secret: &webhook.secret,
        }
    }
}

/// A delivery for programs. Absent is what it does not have.
#[derive(Serialize)]
struct JsonDelivery<'a> {
    event_id: &'a str,
    event_type: &'a str,
    state: &'static str,
    attempts: i32,
    create_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_attempt_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    end_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

impl<'a> From<&'a Delivery> for JsonDelivery<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            event_id: &delivery.event_id,
            event_type: &delivery.event_type,
            state: state_text(delivery.state),
            attempts: delivery.attempts,
            create_time: show_time(delivery.create_time),
            next_attempt_time: show_time(delivery.next_attempt_time),
            end_time: show_time(delivery.end_time),
            status_code: delivery.status_code,
            error: &delivery.error,
        }
    }
}
