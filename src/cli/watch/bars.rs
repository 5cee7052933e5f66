//! `watch bars`: bars as they close, none left out.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::super::client::{Client, ClientOptions};
use super::super::failure::CallError;
use super::super::names::{interval, interval_parser};
use super::super::output::redraws;
use super::super::times::{parse_time, to_pb};
use super::bar_board::BarBoard;
use super::follow::Source;
use super::resume::{CursorFile, Resuming};
use super::view::{Lines, TableView};
use super::{WatchOptions, watch};
use crate::domain::shared::Interval;
use crate::proto::v1::bar_event::Event;
use crate::proto::v1::stream_bars_request::From;
use crate::proto::v1::{BarEvent, StreamBarsRequest};

/// Show bars as they close, until Ctrl-C
///
/// A table on a terminal, else a line an event. The server follows the symbols while this runs. A
/// server that goes away is connected to again, and the stream goes on where it stopped: no bar is
/// left out, and none is shown twice in the same revision.
#[derive(Debug, Args)]
pub(super) struct WatchBars {
    /// The symbols, as EXCHANGE:CODE, e.g. NASDAQ:AAPL
    #[arg(required = true, value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// A bar length; may be repeated [default: all]
    #[arg(short, long = "interval", value_name = "INTERVAL", value_parser = interval_parser())]
    intervals: Vec<Interval>,
    /// Also show the bars whose time is not over, as they change
    #[arg(long)]
    include_forming: bool,
    /// Begin with the stored bars that open at or after TIME: a date (midnight UTC) or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "cursor")]
    from: Option<Timestamp>,
    /// Begin behind the event that had this cursor
    #[arg(long, value_name = "CURSOR", conflicts_with = "cursor_file")]
    cursor: Option<String>,
    /// Keep the cursor of the last event in FILE; what it holds already beats --from
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    #[command(flatten)]
    options: WatchOptions,
}

impl WatchBars {
    pub(super) async fn run(
        self,
        outer: ClientOptions,
        stop: &CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        let file = self.cursor_file.map(CursorFile::new);
        let kept = file.as_ref().map(CursorFile::read).transpose()?.flatten();
        let resumed = kept.is_some();
        let cursor = kept.or(self.cursor).map(From::ResumeCursor);
        let source = BarSource {
            symbols: self.symbols,
            intervals: self.intervals,
            include_forming: self.include_forming,
            from: cursor.or(self.from.map(|from| From::StartTime(to_pb(from)))),
        };
        let path = file.as_ref().filter(|_| resumed).map(|file| file.path().to_owned());
        let WatchOptions { json, no_reconnect, client } = self.options;
        let client = Client::connect(client.or(outer));
        let ended = if redraws(&io::stdout()) && !json {
            let view = Resuming::new(TableView::new(BarBoard::default()), file);
            watch(client, source, !no_reconnect, view, stop).await
        } else {
            let view = Resuming::new(Lines::new(json), file);
            watch(client, source, !no_reconnect, view, stop).await
        };
        ended.or_else(|error| match path {
            Some(path) if expired(&error) => Err(error).with_context(|| {
                let path = path.display();
                format!("the cursor in `{path}` is too old: remove the file to begin anew")
            }),
            Some(_) | None => Err(error),
        })
    }
}

/// Whether the server no longer has what follows the cursor.
fn expired(error: &anyhow::Error) -> bool {
    let reason = error.downcast_ref::<CallError>().and_then(|error| error.reason.as_deref());
    reason == Some("CURSOR_EXPIRED")
}

/// Bars of some series.
#[derive(Clone, Debug)]
pub(in crate::cli) struct BarSource {
    /// `EXCHANGE:CODE` each.
    pub(in crate::cli) symbols: Vec<String>,
    /// None = all.
    pub(in crate::cli) intervals: Vec<Interval>,
    /// Whether those that are forming come, too.
    pub(in crate::cli) include_forming: bool,
    /// Where to begin; none = with the next that closes.
    pub(in crate::cli) from: Option<From>,
}

impl Source for BarSource {
    type Event = BarEvent;

    async fn open(&self, client: &Client) -> Result<Streaming<BarEvent>, CallError> {
        let request = StreamBarsRequest {
            symbols: self.symbols.clone(),
            intervals: self.intervals.iter().map(|each| interval(*each).into()).collect(),
            include_forming: self.include_forming,
            from: self.from.clone(),
        };
        client.answer(client.quotes().stream_bars(client.request(request))).await
    }

    fn note(&mut self, event: &BarEvent) -> Option<Duration> {
        if !event.cursor.is_empty() {
            self.from = Some(From::ResumeCursor(event.cursor.clone()));
        }
        match &event.event {
            Some(Event::Draining(draining)) => Some(
                draining.resume_after.and_then(|after| after.try_into().ok()).unwrap_or_default(),
            ),
            Some(
                Event::Bar(_)
                | Event::IntervalClosed(_)
                | Event::Gap(_)
                | Event::Feed(_)
                | Event::SymbolError(_)
                | Event::Heartbeat(_),
            )
            | None => None,
        }
    }
}
