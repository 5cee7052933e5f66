//! `search`: symbols that the provider has.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::output::{Align, Output, Rows};
use crate::proto::v1::{SearchSymbolsRequest, SymbolMatch};

/// Look symbols up in the provider's directory
///
/// Nothing is stored; `sync` and `subscribe` take what it prints.
#[derive(Debug, Args)]
pub(super) struct Search {
    /// A part of a code or of a name
    query: String,
    /// Only symbols of this exchange
    #[arg(long)]
    exchange: Option<String>,
    /// Only of this kind: stock, fund, futures, forex, crypto, index, bond, economic
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// At most so many (1 to 500) [default: 50]
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<i32>,
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Search {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { query, exchange, kind, limit, json, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let request = client.request(SearchSymbolsRequest { query, exchange, r#type: kind, limit });
        let answer = client.answer(client.market_data().search_symbols(request)).await?;
        let mut output = Output::stdout();
        if json {
            output.json(&answer.matches.iter().map(JsonMatch::from).collect::<Vec<_>>())?;
        } else {
            output.table(&table(&answer.matches))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn table(matches: &[SymbolMatch]) -> Rows {
    use Align::Left;
    let mut rows = Rows::new(&[
        ("symbol", Left),
        ("description", Left),
        ("type", Left),
        ("currency", Left),
        ("exchange", Left),
        ("country", Left),
    ]);
    for found in matches {
        let SymbolMatch { symbol, description, asset_type, currency, exchange_name, country } =
            found.clone();
        rows.push(vec![symbol, description, asset_type, currency, exchange_name, country]);
    }
    rows
}

/// A symbol that the provider has, for programs. Absent is what it does not say.
#[derive(Serialize)]
struct JsonMatch<'a> {
    symbol: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    asset_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    currency: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    exchange_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    country: &'a str,
}

impl<'a> From<&'a SymbolMatch> for JsonMatch<'a> {
    fn from(found: &'a SymbolMatch) -> Self {
        Self {
            symbol: &found.symbol,
            description: &found.description,
            asset_type: &found.asset_type,
            currency: &found.currency,
            exchange_name: &found.exchange_name,
            country: &found.country,
        }
    }
}
