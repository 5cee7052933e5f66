//! `quote`: the newest quotes that the server has.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::failure::{CallError, complain};
use super::output::{Align, Output, Rows};
use super::times::{show_duration, show_time};
use crate::proto::v1::{GetLatestQuoteRequest, ListQuotesRequest, Quote as PbQuote};

/// Show the newest quotes
///
/// Of the symbols given, or of all that are subscribed. A symbol without a quote stops no other, is
/// named on stderr, and makes the exit code 1.
#[derive(Debug, Args)]
pub(super) struct Quote {
    /// The symbols, as EXCHANGE:CODE, e.g. NASDAQ:AAPL [default: all that are subscribed]
    #[arg(value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// Print JSON: an array with an object a symbol
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Quote {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { symbols, json, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let request = client.request(ListQuotesRequest { symbols: symbols.clone() });
        let mut quotes = client.answer(client.quotes().list_quotes(request)).await?.quotes;
        let failed = fill_in(&client, &symbols, &mut quotes).await;
        let mut output = Output::stdout();
        if json {
            let found = quotes.iter().map(|quote| Report::Found(Box::new(quote.into())));
            let failed = failed.iter().map(|(symbol, error)| Report::Failed { symbol, error });
            output.json(&found.chain(failed).collect::<Vec<_>>())?;
        } else if !quotes.is_empty() || failed.is_empty() {
            output.table(&table(&quotes))?;
        }
        output.finish()?;
        if !json {
            for (symbol, error) in &failed {
                complain(&format!("{symbol}: {error}"));
            }
        }
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Asks once more for each symbol that the list left out: the answer says why, and what to do.
async fn fill_in<'a>(
    client: &Client,
    symbols: &'a [String],
    quotes: &mut Vec<PbQuote>,
) -> Vec<(&'a str, CallError)> {
    let mut failed = Vec::new();
    for symbol in symbols {
        if quotes.iter().any(|quote| quote.symbol.eq_ignore_ascii_case(symbol)) {
            continue;
        }
        let request = client.request(GetLatestQuoteRequest { symbol: symbol.clone() });
        match client.answer(client.quotes().get_latest_quote(request)).await {
            Ok(quote) => quotes.push(quote),
            Err(error) => failed.push((symbol.as_str(), error)),
        }
    }
    failed
}

fn table(quotes: &[PbQuote]) -> Rows {
    use Align::{Left, Right};
    let mut rows = Rows::new(&[
        ("symbol", Left),
        ("last", Right),
        ("change", Right),
        ("%", Right),
        ("bid", Right),
        ("ask", Right),
        ("volume", Right),
        ("time", Left),
        ("delay", Right),
    ]);
    for quote in quotes {
        rows.push(quote_row(quote));
    }
    rows
}

/// Symbol, last, change, percent, bid, ask, volume, time, delay.
pub(super) fn quote_row(quote: &PbQuote) -> Vec<String> {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    vec![
        quote.symbol.clone(),
        quote.last_price.to_string(),
        quote.change.map(|change| format!("{change:+}")).unwrap_or_default(),
        quote.change_percent.map(|percent| format!("{percent:+.2}")).unwrap_or_default(),
        number(quote.bid),
        number(quote.ask),
        number(quote.volume),
        show_time(quote.time),
        show_duration(quote.delay),
    ]
}

/// A quote, for programs. Absent is what the quote does not have.
#[derive(Serialize)]
pub(super) struct JsonQuote<'a> {
    symbol: &'a str,
    time: String,
    last_price: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bid: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_close: Option<f64>,
    sequence: i64,
    epoch: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    delay: String,
}

impl<'a> From<&'a PbQuote> for JsonQuote<'a> {
    fn from(quote: &'a PbQuote) -> Self {
        Self {
            symbol: &quote.symbol,
            time: show_time(quote.time),
            last_price: quote.last_price,
            bid: quote.bid,
            ask: quote.ask,
            volume: quote.volume,
            change: quote.change,
            change_percent: quote.change_percent,
            open_price: quote.open_price,
            high_price: quote.high_price,
            low_price: quote.low_price,
            prev_close: quote.prev_close,
            sequence: quote.sequence,
            epoch: quote.epoch,
            delay: show_duration(quote.delay),
        }
    }
}

/// What became of a symbol.
#[derive(Serialize)]
#[serde(untagged)]
enum Report<'a> {
    Found(Box<JsonQuote<'a>>),
    Failed { symbol: &'a str, error: &'a CallError },
}
