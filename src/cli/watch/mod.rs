//! `watch`: quotes and bars as they come, until Ctrl-C; a sync to its end.
//!
//! A stream that breaks is opened again; what is shown does not know about that beyond being told.

mod bar_board;
mod bar_text;
mod bars;
mod follow;
mod quote_board;
mod quote_text;
mod quotes;
mod resume;
mod screen;
mod situation;
mod sync;
mod view;

use std::future::{Future, pending};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{Client, ClientOptions};
use crate::common::shutdown::stop_signal;

pub(super) use bar_board::BarBoard;
pub(super) use bars::BarSource;
pub(super) use follow::{Heard, Source, follow};
pub(super) use quote_board::QuoteBoard;
pub(super) use quotes::QuoteSource;
pub(super) use view::{Board, Lines, Says, TableView, View, show};

/// Events that wait to be shown; behind them it is the server's turn to wait.
const QUEUE: usize = 1024;

/// Show quotes or bars as they come, until Ctrl-C, or a sync to its end
#[derive(Debug, Args)]
pub(super) struct Watch {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Quotes(quotes::WatchQuotes),
    Bars(bars::WatchBars),
    Sync(sync::WatchSync),
}

impl Watch {
    /// Ctrl-C is how it usually ends: exit code 0.
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let stop = CancellationToken::new();
        let watching = async {
            match self.what {
                What::Quotes(command) => command.run(outer, &stop).await,
                What::Bars(command) => command.run(outer, &stop).await,
                What::Sync(command) => command.run(outer).await,
            }
        };
        let stopping = async {
            stop_signal().await?;
            stop.cancel();
            pending().await
        };
        tokio::select! {
            // The signal is listened for before anything is shown: who sees a line may send it.
            biased;
            failed = stopping => failed,
            ended = watching => ended,
        }
    }
}

/// How to watch.
#[derive(Clone, Debug, Args)]
struct WatchOptions {
    /// Print JSON: an object a line, every event
    #[arg(long)]
    json: bool,
    /// End when the server goes away, rather than connecting again
    #[arg(long)]
    no_reconnect: bool,
    #[command(flatten)]
    client: ClientOptions,
}

/// Shows what `source` says, until `stop` or the end of it.
async fn watch<S, V>(
    connecting: impl Future<Output = anyhow::Result<Client>>,
    source: S,
    reconnect: bool,
    mut view: V,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode>
where
    S: Source,
    V: View<Event = S::Event>,
{
    let following = async {
        let client = connecting.await?;
        let (to, from) = mpsc::channel(QUEUE);
        let shown = show(&mut view, from);
        // Its end is something to show, too: this goes on until that is shown.
        let followed = async {
            follow(&client, source, reconnect, to).await;
            pending().await
        };
        tokio::select! {
            shown = shown => shown,
            never = followed => never,
        }
    };
    let ended = tokio::select! {
        ended = following => ended,
        () = stop.cancelled() => Ok(()),
    };
    let finished = view.finish();
    ended.and(finished).map(|()| ExitCode::SUCCESS)
}
