//! `watch quotes`: quotes as they come.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::super::client::{Client, ClientOptions};
use super::super::failure::CallError;
use super::super::output::redraws;
use super::super::times::parse_duration;
use super::follow::Source;
use super::quote_board::QuoteBoard;
use super::view::{Lines, TableView};
use super::{WatchOptions, watch};
use crate::proto::v1::quote_event::Event;
use crate::proto::v1::{QuoteEvent, StreamQuotesRequest};

/// Show quotes as they come, until Ctrl-C
///
/// A table on a terminal, else a line an event. The server follows the symbols while this runs. A
/// server that goes away is connected to again.
#[derive(Debug, Args)]
pub(super) struct WatchQuotes {
    /// The symbols, as EXCHANGE:CODE, e.g. NASDAQ:AAPL
    #[arg(required = true, value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// At most one update of a symbol in this time, e.g. `250ms`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    conflate: Option<Duration>,
    #[command(flatten)]
    options: WatchOptions,
}

impl WatchQuotes {
    pub(super) async fn run(
        self,
        outer: ClientOptions,
        stop: &CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        let Self { symbols, conflate, options } = self;
        let client = Client::connect(options.client.or(outer));
        let board = QuoteBoard::new(&symbols);
        let source = QuoteSource { symbols, conflate };
        if redraws(&io::stdout()) && !options.json {
            let view = TableView::new(board);
            return watch(client, source, !options.no_reconnect, view, stop).await;
        }
        let view = Lines::new(options.json);
        watch(client, source, !options.no_reconnect, view, stop).await
    }
}

/// Quotes of some symbols.
#[derive(Clone, Debug)]
pub(in crate::cli) struct QuoteSource {
    /// `EXCHANGE:CODE` each.
    pub(in crate::cli) symbols: Vec<String>,
    /// At most one update of a symbol in this time.
    pub(in crate::cli) conflate: Option<Duration>,
}

impl Source for QuoteSource {
    type Event = QuoteEvent;

    async fn open(&self, client: &Client) -> Result<Streaming<QuoteEvent>, CallError> {
        let conflate = self.conflate.and_then(|conflate| conflate.try_into().ok());
        let request = StreamQuotesRequest { symbols: self.symbols.clone(), conflate };
        client.answer(client.quotes().stream_quotes(client.request(request))).await
    }

    fn note(&mut self, event: &QuoteEvent) -> Option<Duration> {
        match &event.event {
            Some(Event::Draining(draining)) => Some(
                draining.resume_after.and_then(|after| after.try_into().ok()).unwrap_or_default(),
            ),
            Some(
                Event::Quote(_)
                | Event::Gap(_)
                | Event::Feed(_)
                | Event::SymbolError(_)
                | Event::Heartbeat(_),
            )
            | None => None,
        }
    }
}
