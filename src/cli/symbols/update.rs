//! `symbols update`: say something of a symbol in place of the provider.

use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::{JsonSymbol, table};
use crate::cli::client::{Client, ClientOptions};
use crate::cli::key::KeyOption;
use crate::cli::output::Output;
use crate::proto::v1::UpdateSymbolRequest;

/// Set what a symbol is called in place of the provider's words, and whether it is active
///
/// What is set stands until it is taken back with an empty text: --name "".
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Update {
    /// The symbol, as EXCHANGE:CODE
    symbol: String,
    /// Its short name
    #[arg(long, group = "change")]
    name: Option<String>,
    /// What it is, in words
    #[arg(long, group = "change")]
    description: Option<String>,
    /// Its type, such as stock
    #[arg(long = "type", value_name = "TYPE", group = "change")]
    asset_type: Option<String>,
    /// Whether it is active: scheduled jobs pass over symbols that are not
    #[arg(long, value_name = "BOOL", group = "change")]
    active: Option<bool>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    client: ClientOptions,
}

impl Update {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { symbol, name, description, asset_type, active, json, key, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let request = UpdateSymbolRequest { symbol, name, description, asset_type, active };
        let request = key.whole().on(client.request(request));
        let symbol = client.answer(client.market_data().update_symbol(request)).await?;
        let mut output = Output::stdout();
        if json {
            output.json(&JsonSymbol::from(&symbol))?;
        } else {
            output.table(&table(std::slice::from_ref(&symbol)))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}
