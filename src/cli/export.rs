//! `export`: write all stored bars of a series as CSV.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use indicatif::ProgressBar;
use jiff::Timestamp;

use super::client::{Client, ClientOptions};
use super::names::{bar_state_text, interval};
use super::output::{Output, broken, csv_error};
use super::progress;
use super::series::{RangeArgs, SeriesArgs};
use super::target::Target;
use super::times::to_pb;
use crate::proto::v1::{BarChunk, ExportBarsRequest, GetSyncStatusRequest};

const HEADER: [&str; 7] = ["time", "open", "high", "low", "close", "volume", "state"];

/// Write all stored bars of a series as CSV, the oldest first
///
/// The columns are time,open,high,low,close,volume,state: `time` is when the bar opens, in UTC;
/// `volume` is empty where the bar has none. Numbers read back to exactly the stored values. Bars
/// whose time is not over are left out. A file appears under its name only when it is complete.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    series: SeriesArgs,
    #[command(flatten)]
    range: RangeArgs,
    /// Where to write; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    client: ClientOptions,
}

impl Export {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.clone().or(outer)).await?;
        if self.output.as_os_str() == "-" {
            let mut output = Output::stdout();
            self.copy(&client, output.writer(), !io::stdout().is_terminal(), broken).await?;
            output.finish()?;
        } else {
            self.to_file(&client).await?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn to_file(&self, client: &Client) -> anyhow::Result<()> {
        let named = format!("cannot write `{}`", self.output.display());
        let mut target = Target::open(&self.output).with_context(|| named.clone())?;
        let written = |error: io::Error| anyhow::Error::new(error).context(named.clone());
        let count = self.copy(client, &mut BufWriter::new(target.file()), true, written).await?;
        target.finish().map_err(written)?;
        let SeriesArgs { symbol, interval } = &self.series;
        let name = self.output.display();
        // Where stderr is closed there is nobody to tell.
        let _unheard =
            writeln!(io::stderr(), "wrote {count} bars of {symbol} {interval} to {name}");
        Ok(())
    }

    /// Writes the bars to `to`; how many. `failed` says what a failure to write means.
    async fn copy(
        &self,
        client: &Client,
        to: &mut impl Write,
        show_progress: bool,
        failed: impl Fn(io::Error) -> anyhow::Error,
    ) -> anyhow::Result<u64> {
        let request = client.request(self.request());
        let mut chunks = client.answer(client.market_data().export_bars(request)).await?;
        let progress = self.progress(client, show_progress).await;
        let mut csv = csv::Writer::from_writer(to);
        csv.write_record(HEADER).map_err(|error| failed(csv_error(error)))?;
        while let Some(chunk) = client.next(&mut chunks).await? {
            for row in Columns::of(&chunk)?.rows() {
                csv.write_record(row?).map_err(|error| failed(csv_error(error)))?;
            }
            progress.inc(u64::try_from(chunk.open_time_ms.len()).unwrap_or_default());
        }
        csv.flush().map_err(&failed)?;
        progress.finish_and_clear();
        Ok(progress.position())
    }

    fn request(&self) -> ExportBarsRequest {
        ExportBarsRequest {
            symbol: self.series.symbol.clone(),
            interval: interval(self.series.interval).into(),
            start_time: self.range.from.map(to_pb),
            end_time: self.range.to.map(to_pb),
            chunk_size: 0,
        }
    }

    /// Up to the number of bars that the series holds, where that is what will come.
    async fn progress(&self, client: &Client, shown: bool) -> ProgressBar {
        if !shown || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let SeriesArgs { symbol, interval: length } = &self.series;
        let name = format!("{symbol} {length}");
        if self.range.from.is_some() || self.range.to.is_some() {
            return progress::counter(name);
        }
        let request =
            GetSyncStatusRequest { symbol: symbol.clone(), interval: interval(*length).into() };
        let request = client.request(request);
        let status = client.answer(client.market_data().get_sync_status(request)).await;
        match status.map(|status| u64::try_from(status.bar_count)) {
            Ok(Ok(total)) => progress::bar(total, name),
            // It only decorates: the export says itself what is wrong.
            Ok(Err(_)) | Err(_) => progress::counter(name),
        }
    }
}

/// The columns of a chunk, of equal length.
struct Columns<'a>(&'a BarChunk);

impl<'a> Columns<'a> {
    fn of(chunk: &'a BarChunk) -> anyhow::Result<Self> {
        let rows = chunk.open_time_ms.len();
        let numbers = [&chunk.open, &chunk.high, &chunk.low, &chunk.close, &chunk.volume];
        let even = numbers.iter().all(|column| column.len() == rows) && chunk.state.len() == rows;
        ensure!(even, "the server sent columns of unequal length");
        Ok(Self(chunk))
    }

    fn rows(&self) -> impl Iterator<Item = anyhow::Result<[String; 7]>> + 'a {
        let chunk = self.0;
        let prices = chunk.open.iter().zip(&chunk.high).zip(chunk.low.iter().zip(&chunk.close));
        let rest = chunk.volume.iter().zip(&chunk.state);
        let rows = chunk.open_time_ms.iter().zip(prices).zip(rest);
        rows.map(|((time, ((open, high), (low, close))), (volume, state))| {
            let time = Timestamp::from_millisecond(*time).context("the server sent no time")?;
            let volume = if volume.is_nan() { String::new() } else { volume.to_string() };
            let [open, high, low, close] = [open, high, low, close].map(ToString::to_string);
            let state = bar_state_text(*state).to_owned();
            Ok([time.to_string(), open, high, low, close, volume, state])
        })
    }
}
