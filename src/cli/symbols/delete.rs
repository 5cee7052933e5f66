//! `symbols delete`: remove a symbol from those that the server knows.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use console::Term;

use crate::cli::client::{Client, ClientOptions};
use crate::cli::failure::UsageMistake;
use crate::cli::key::KeyOption;
use crate::cli::output::Output;
use crate::proto::v1::DeleteSymbolRequest;

/// Remove a symbol from those that the server knows, and unsubscribe it
///
/// Its bars stay, and are served as before, unless --bars. It becomes known again with its next
/// sync. Of a symbol of which all syncs have failed, what `status` says of them is removed.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The symbol, as EXCHANGE:CODE
    symbol: String,
    /// Delete its bars too, of all intervals
    #[arg(long)]
    bars: bool,
    /// Do not ask whether that is meant
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    client: ClientOptions,
}

impl Delete {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { symbol, bars, yes, key, client } = self;
        let what = if bars { " and all its bars" } else { "; its bars stay" };
        if !yes && !is_meant(&format!("delete {symbol}{what}?"))? {
            return Ok(ExitCode::FAILURE);
        }
        let client = Client::connect(client.or(outer)).await?;
        let request = DeleteSymbolRequest { symbol: symbol.clone(), delete_bars: bars };
        let request = key.whole().on(client.request(request));
        client.answer(client.market_data().delete_symbol(request)).await?;
        let mut output = Output::stdout();
        output.line(format!("deleted {symbol}{what}"))?;
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks on the terminal; where there is none, nobody can say that it is meant.
fn is_meant(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let mistake = "deleting has to be meant: add --yes where nobody can be asked";
        return Err(UsageMistake(mistake.to_owned()).into());
    }
    let terminal = Term::stderr();
    let asking = || {
        terminal.write_str(&format!("{question} [y/N] "))?;
        terminal.read_line()
    };
    let answer = asking().context("cannot ask on the terminal")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
