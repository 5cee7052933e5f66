//! `status`: how the synchronisation of series stands.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::names::{StateFilter, interval, interval_parser, interval_text, sync_state_text};
use super::output::{Align, Output, Rows};
use super::times::show_time;
use crate::common::constants::MAX_PAGE_SIZE;
use crate::domain::shared::Interval;
use crate::proto::v1::{GetSyncStatusRequest, ListSyncStatusesRequest, SyncStatus};

/// Show how the synchronisation of series stands
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Only this symbol, as EXCHANGE:CODE
    symbol: Option<String>,
    /// Only this bar length
    #[arg(short, long, requires = "symbol", value_parser = interval_parser())]
    interval: Option<Interval>,
    /// Only symbols of this exchange
    #[arg(long, conflicts_with = "symbol")]
    exchange: Option<String>,
    /// Only series in this state
    #[arg(long, conflicts_with = "interval")]
    state: Option<StateFilter>,
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Status {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { symbol, interval, exchange, state, json, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let statuses = match (symbol, interval) {
            (Some(symbol), Some(interval)) => vec![one(&client, symbol, interval).await?],
            (Some(symbol), None) => of_symbol(&client, &symbol, state).await?,
            (None, _) => all(&client, exchange, state).await?,
        };
        let mut output = Output::stdout();
        if json {
            output.json(&statuses.iter().map(JsonStatus::from).collect::<Vec<_>>())?;
        } else {
            output.table(&table(&statuses))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn one(client: &Client, symbol: String, length: Interval) -> anyhow::Result<SyncStatus> {
    let request = GetSyncStatusRequest { symbol, interval: interval(length).into() };
    let request = client.request(request);
    Ok(client.answer(client.market_data().get_sync_status(request)).await?)
}

/// The series of one symbol, out of its exchange's.
async fn of_symbol(
    client: &Client,
    symbol: &str,
    state: Option<StateFilter>,
) -> anyhow::Result<Vec<SyncStatus>> {
    let exchange = symbol.split_once(':').map(|(exchange, _)| exchange.to_owned());
    let mut statuses = all(client, exchange, state).await?;
    statuses.retain(|status| status.symbol.eq_ignore_ascii_case(symbol));
    Ok(statuses)
}

async fn all(
    client: &Client,
    exchange: Option<String>,
    state: Option<StateFilter>,
) -> anyhow::Result<Vec<SyncStatus>> {
    let mut request = ListSyncStatusesRequest {
        exchange,
        state: state.map(|state| state.to_pb().into()),
        page_size: MAX_PAGE_SIZE,
        page_token: String::new(),
    };
    let mut statuses = Vec::new();
    loop {
        let call = client.request(request.clone());
        let page = client.answer(client.market_data().list_sync_statuses(call)).await?;
        statuses.extend(page.statuses);
        if page.next_page_token.is_empty() {
            return Ok(statuses);
        }
        request.page_token = page.next_page_token;
    }
}

fn table(statuses: &[SyncStatus]) -> Rows {
    use Align::{Left, Right};
    let mut rows = Rows::new(&[
        ("symbol", Left),
        ("interval", Left),
        ("state", Left),
        ("bars", Right),
        ("last sync", Left),
        ("last bar", Left),
        ("error", Left),
    ]);
    for status in statuses {
        rows.push(vec![
            status.symbol.clone(),
            interval_text(status.interval).to_owned(),
            sync_state_text(status.state).to_owned(),
            status.bar_count.to_string(),
            show_time(status.last_sync_time),
            show_time(status.last_bar_time),
            status.error_message.clone(),
        ]);
    }
    rows
}

/// How a series stands, for programs. Absent is what it does not have.
#[derive(Serialize)]
struct JsonStatus<'a> {
    symbol: &'a str,
    interval: &'static str,
    state: &'static str,
    bar_count: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_sync_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_bar_time: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    error_message: &'a str,
}

impl<'a> From<&'a SyncStatus> for JsonStatus<'a> {
    fn from(status: &'a SyncStatus) -> Self {
        Self {
            symbol: &status.symbol,
            interval: interval_text(status.interval),
            state: sync_state_text(status.state),
            bar_count: status.bar_count,
            last_sync_time: show_time(status.last_sync_time),
            last_bar_time: show_time(status.last_bar_time),
            error_message: &status.error_message,
        }
    }
}
