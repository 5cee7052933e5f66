//! `sync`: have the server fetch series from the provider.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::failure::{CallError, complain};
use super::names::{history_end_text, interval, interval_parser, interval_text, sync_state_text};
use super::output::{Align, Output, Rows};
use super::progress::{moving, spinner};
use super::times::{show_duration, show_time};
use crate::domain::shared::Interval;
use crate::proto::v1::{SyncResult, SyncSymbolRequest};

/// Syncs that run at once.
const AT_ONCE: usize = 4;

/// Fetch series from the provider and store what differs
///
/// The server does the work and goes on with it when this command is interrupted. At most four
/// symbols are synced at once; one that fails stops no other, is named on stderr, and makes the
/// exit code 1.
#[derive(Debug, Args)]
pub(super) struct Sync {
    /// The symbols, as EXCHANGE:CODE, e.g. NASDAQ:AAPL
    #[arg(required = true, value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// The bar length
    #[arg(short, long, default_value = "1d", value_parser = interval_parser())]
    interval: Interval,
    /// How many of the newest bars to fetch: 1 to 5000 [default: 5000]
    #[arg(short = 'n', long = "bars", value_name = "N", conflicts_with = "full")]
    bars: Option<i32>,
    /// Fetch all bars that the provider has, page by page
    #[arg(long)]
    full: bool,
    /// Print JSON: an array with an object a symbol
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

/// How the sync of one symbol ended.
struct Outcome {
    symbol: String,
    result: Result<SyncResult, CallError>,
}

impl Sync {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { symbols, interval, bars, full, json, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let progress = MultiProgress::new();
        let syncs = symbols.into_iter().map(|symbol| {
            let spinner = progress.add(spinner(format!("{symbol} {interval}")));
            one(&client, symbol, interval, bars, full, spinner)
        });
        let outcomes: Vec<_> = futures::stream::iter(syncs).buffered(AT_ONCE).collect().await;
        progress.clear().context("cannot write to the terminal")?;
        let mut output = Output::stdout();
        if json {
            let reports: Vec<_> = outcomes.iter().map(|each| Report::new(each, interval)).collect();
            output.json(&reports)?;
        } else if outcomes.iter().any(|each| each.result.is_ok()) {
            output.table(&table(&outcomes))?;
        }
        output.finish()?;
        Ok(tell_failures(&outcomes, json))
    }
}

async fn one(
    client: &Client,
    symbol: String,
    length: Interval,
    bar_count: Option<i32>,
    full_history: bool,
    spinner: ProgressBar,
) -> Outcome {
    let spinner = moving(spinner);
    let request = SyncSymbolRequest {
        symbol: symbol.clone(),
        interval: interval(length).into(),
        bar_count,
        full_history,
    };
    let result = client.answer(client.market_data().sync_symbol(client.request(request))).await;
    spinner.finish_and_clear();
    Outcome { symbol, result }
}

/// Names the failures; the exit code that they make.
fn tell_failures(outcomes: &[Outcome], told: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for Outcome { symbol, result } in outcomes {
        if let Err(error) = result {
            code = ExitCode::FAILURE;
            if !told {
                complain(&format!("{symbol}: {error}"));
            }
        }
    }
    code
}

fn table(outcomes: &[Outcome]) -> Rows {
    use Align::{Left, Right};
    let mut rows = Rows::new(&[
        ("symbol", Left),
        ("interval", Left),
        ("fetched", Right),
        ("inserted", Right),
        ("updated", Right),
        ("unchanged", Right),
        ("rejected", Right),
        ("total", Right),
        ("first", Left),
        ("last", Left),
        ("elapsed", Right),
        ("history", Left),
    ]);
    for result in outcomes.iter().filter_map(|each| each.result.as_ref().ok()) {
        let end = history_end_text(result.history_end);
        rows.push(vec![
            result.symbol.clone(),
            interval_text(result.interval).to_owned(),
            result.bars_fetched.to_string(),
            result.bars_inserted.to_string(),
            result.bars_updated.to_string(),
            result.bars_unchanged.to_string(),
            result.bars_rejected.to_string(),
            result.total_bars.to_string(),
            show_time(result.first_bar_time),
            show_time(result.last_bar_time),
            show_duration(result.elapsed),
            end.unwrap_or("more may exist").to_owned(),
        ]);
    }
    rows
}

/// How the sync of one symbol ended, for programs.
#[derive(Serialize)]
#[serde(untagged)]
enum Report<'a> {
    Done {
        symbol: &'a str,
        interval: &'static str,
        state: &'static str,
        bars_fetched: i32,
        bars_inserted: i32,
        bars_updated: i32,
        bars_unchanged: i32,
        bars_rejected: i32,
        total_bars: i32,
        #[serde(skip_serializing_if = "String::is_empty")]
        first_bar_time: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        last_bar_time: String,
        elapsed: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        history_end: Option<&'static str>,
    },
    Failed {
        symbol: &'a str,
        interval: &'static str,
        error: &'a CallError,
    },
}

impl<'a> Report<'a> {
    fn new(outcome: &'a Outcome, interval: Interval) -> Self {
        match &outcome.result {
            Ok(result) => Self::Done {
                symbol: &result.symbol,
                interval: interval_text(result.interval),
                state: sync_state_text(result.state),
                bars_fetched: result.bars_fetched,
                bars_inserted: result.bars_inserted,
                bars_updated: result.bars_updated,
                bars_unchanged: result.bars_unchanged,
                bars_rejected: result.bars_rejected,
                total_bars: result.total_bars,
                first_bar_time: show_time(result.first_bar_time),
                last_bar_time: show_time(result.last_bar_time),
                elapsed: show_duration(result.elapsed),
                history_end: history_end_text(result.history_end),
            },
            Err(error) => {
                Self::Failed { symbol: &outcome.symbol, interval: interval.as_str(), error }
            }
        }
    }
}
