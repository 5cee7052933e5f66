//! `symbols`: the symbols that the server knows, what a person says of them, and their removal.

mod delete;
mod update;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::delete::Delete;
use self::update::Update;
use crate::cli::client::{Client, ClientOptions};
use crate::cli::output::{Align, Output, Rows};
use crate::cli::times::show_time;
use crate::common::constants::MAX_PAGE_SIZE;
use crate::proto::v1::{GetSymbolRequest, ListSymbolsRequest, SymbolInfo};

/// Show the symbols that the server knows, change or delete one
///
/// A symbol becomes known with its first sync.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Symbols {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    show: Show,
}

#[derive(Debug, Subcommand)]
enum Action {
    Update(Update),
    Delete(Delete),
}

#[derive(Debug, Args)]
struct Show {
    /// Only this symbol, as EXCHANGE:CODE
    symbol: Option<String>,
    /// Only symbols of this exchange
    #[arg(long, conflicts_with = "symbol")]
    exchange: Option<String>,
    /// Only active symbols (true), or only inactive ones (false)
    #[arg(long, value_name = "BOOL", conflicts_with = "symbol")]
    active: Option<bool>,
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Symbols {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        match self.action {
            None => self.show.run(outer).await,
            Some(Action::Update(command)) => command.run(outer).await,
            Some(Action::Delete(command)) => command.run(outer).await,
        }
    }
}

impl Show {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { symbol, exchange, active, json, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let symbols = match symbol {
            Some(symbol) => {
                let request = client.request(GetSymbolRequest { symbol });
                vec![client.answer(client.market_data().get_symbol(request)).await?]
            }
            None => all(&client, exchange, active).await?,
        };
        let mut output = Output::stdout();
        if json {
            output.json(&symbols.iter().map(JsonSymbol::from).collect::<Vec<_>>())?;
        } else {
            output.table(&table(&symbols))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(
    client: &Client,
    exchange: Option<String>,
    active: Option<bool>,
) -> anyhow::Result<Vec<SymbolInfo>> {
    let (page_size, page_token) = (MAX_PAGE_SIZE, String::new());
    let mut request = ListSymbolsRequest { exchange, active, page_size, page_token };
    let mut symbols = Vec::new();
    loop {
        let call = client.request(request.clone());
        let page = client.answer(client.market_data().list_symbols(call)).await?;
        symbols.extend(page.symbols);
        if page.next_page_token.is_empty() {
            return Ok(symbols);
        }
        request.page_token = page.next_page_token;
    }
}

fn table(symbols: &[SymbolInfo]) -> Rows {
    use Align::Left;
    let mut rows = Rows::new(&[
        ("symbol", Left),
        ("name", Left),
        ("description", Left),
        ("type", Left),
        ("currency", Left),
        ("session", Left),
        ("time zone", Left),
        ("active", Left),
        ("updated", Left),
    ]);
    for symbol in symbols {
        let mut session = symbol.session.clone();
        if !symbol.session_known {
            session += " (not known: bars are cut around the clock in UTC)";
        }
        rows.push(vec![
            symbol.symbol.clone(),
            symbol.name.clone(),
            symbol.description.clone(),
            symbol.asset_type.clone(),
            symbol.currency.clone(),
            session,
            symbol.timezone.clone(),
            if symbol.active { "yes" } else { "no" }.to_owned(),
            show_time(symbol.update_time),
        ]);
    }
    rows
}

/// What is known of a symbol, for programs. Absent is what is not known.
#[derive(Serialize)]
struct JsonSymbol<'a> {
    symbol: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    asset_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    currency: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    timezone: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    session: &'a str,
    session_known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_scale: Option<i64>,
    active: bool,
    create_time: String,
    update_time: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    custom_fields: &'a [String],
}

impl<'a> From<&'a SymbolInfo> for JsonSymbol<'a> {
    fn from(symbol: &'a SymbolInfo) -> Self {
        Self {
            symbol: &symbol.symbol,
            name: &symbol.name,
            description: &symbol.description,
            asset_type: &symbol.asset_type,
            currency: &symbol.currency,
            timezone: &symbol.timezone,
            session: &symbol.session,
            session_known: symbol.session_known,
            price_scale: symbol.price_scale,
            active: symbol.active,
            create_time: show_time(symbol.create_time),
            update_time: show_time(symbol.update_time),
            custom_fields: &symbol.custom_fields,
        }
    }
}
