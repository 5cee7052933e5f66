//! `bars`: show stored bars as a table, JSON or CSV.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::names::{bar_source_text, bar_state_text, interval};
use super::output::{Align, Output, Rows, broken, csv_error};
use super::pages::Pages;
use super::series::{RangeArgs, SeriesArgs};
use super::times::{show_time, to_pb};
use crate::proto::v1::{Bar, BarOrder, GetBarsRequest, GetCurrentBarRequest};

/// Bars that are shown when neither their number nor where they begin is given.
const DEFAULT_LIMIT: u64 = 20;

/// Show stored bars, the newest first
///
/// Each bar says whether it is final (state, revision) and where its values came from (source).
/// Nothing is fetched from the provider: `pocketquant sync` does that.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub(super) struct Bars {
    #[command(flatten)]
    series: SeriesArgs,
    /// How many bars at most [default: 20, or all with --from]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    range: RangeArgs,
    /// Begin with the oldest bar of the range
    #[arg(long)]
    oldest_first: bool,
    /// Also show the bar whose time is not over
    #[arg(long)]
    include_forming: bool,
    /// Show the bar that is forming in the feed at this moment, and no other
    #[arg(long, conflicts_with_all = ["limit", "from", "to", "oldest_first", "include_forming"])]
    current: bool,
    /// Print JSON: an object with the array `bars`, a bar a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV with a header
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Bars {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.clone().or(outer)).await?;
        let default = self.range.from.is_none().then_some(DEFAULT_LIMIT);
        let pages = if self.current {
            let request = client.request(GetCurrentBarRequest {
                symbol: self.series.symbol.clone(),
                interval: interval(self.series.interval).into(),
            });
            let bar = client.answer(client.quotes().get_current_bar(request)).await?;
            Pages::ready(&client, vec![bar])
        } else {
            Pages::new(&client, self.request(), self.limit.or(default))
        };
        if self.json {
            print_json(pages, &self.series).await?;
        } else if self.csv {
            print_csv(pages).await?;
        } else {
            print_table(pages).await?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self) -> GetBarsRequest {
        let order = if self.oldest_first { BarOrder::OldestFirst } else { BarOrder::NewestFirst };
        GetBarsRequest {
            symbol: self.series.symbol.clone(),
            interval: interval(self.series.interval).into(),
            start_time: self.range.from.map(to_pb),
            end_time: self.range.to.map(to_pb),
            limit: None,
            order: order.into(),
            include_forming: self.include_forming,
            page_token: String::new(),
        }
    }
}

async fn print_table(mut pages: Pages<'_>) -> anyhow::Result<()> {
    let mut rows = bar_rows();
    while let Some(bars) = pages.next().await? {
        for bar in &bars {
            rows.push(bar_row(bar));
        }
    }
    let mut output = Output::stdout();
    output.table(&rows)?;
    output.finish()
}

/// A table of bars, empty.
pub(super) const fn bar_rows() -> Rows {
    use Align::{Left, Right};
    Rows::new(&[
        ("open time", Left),
        ("close time", Left),
        ("open", Right),
        ("high", Right),
        ("low", Right),
        ("close", Right),
        ("volume", Right),
        ("state", Left),
        ("revision", Right),
        ("source", Left),
    ])
}

/// A row of [`bar_rows`].
pub(super) fn bar_row(bar: &Bar) -> Vec<String> {
    vec![
        show_time(bar.open_time),
        show_time(bar.close_time),
        bar.open.to_string(),
        bar.high.to_string(),
        bar.low.to_string(),
        bar.close.to_string(),
        bar.volume.map(|volume| volume.to_string()).unwrap_or_default(),
        bar_state_text(bar.state).to_owned(),
        bar.revision.to_string(),
        bar_source_text(bar.source).to_owned(),
    ]
}

async fn print_csv(mut pages: Pages<'_>) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    let header = "time,close_time,open,high,low,close,volume,state,revision,source";
    let mut begun = false;
    while let Some(bars) = pages.next().await? {
        if !begun {
            output.line(header)?;
            begun = true;
        }
        let mut csv = csv::Writer::from_writer(output.writer());
        for bar in &bars {
            csv.write_record(bar_row(bar)).map_err(|error| broken(csv_error(error)))?;
        }
        csv.flush().map_err(broken)?;
    }
    output.finish()
}

/// A bar, for programs. Absent is what the bar does not have.
#[derive(Serialize)]
pub(super) struct JsonBar {
    open_time: String,
    close_time: String,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<f64>,
    state: &'static str,
    revision: i32,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tick_count: Option<i32>,
}

impl From<&Bar> for JsonBar {
    fn from(bar: &Bar) -> Self {
        Self {
            open_time: show_time(bar.open_time),
            close_time: show_time(bar.close_time),
            open: bar.open,
            high: bar.high,
            low: bar.low,
            close: bar.close,
            volume: bar.volume,
            state: bar_state_text(bar.state),
            revision: bar.revision,
            source: bar_source_text(bar.source),
            tick_count: bar.tick_count,
        }
    }
}

/// Written as it is read, so that many bars take no more memory than a page.
async fn print_json(mut pages: Pages<'_>, series: &SeriesArgs) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    let mut before = None;
    while let Some(bars) = pages.next().await? {
        if before.is_none() {
            let symbol = serde_json::to_string(&series.symbol.to_ascii_uppercase())?;
            output.text(format!(
                "{{\"symbol\":{symbol},\"interval\":\"{}\",\"bars\":[",
                series.interval
            ))?;
        }
        for bar in &bars {
            output.text(before.unwrap_or("\n"))?;
            output.text(serde_json::to_string(&JsonBar::from(bar))?)?;
            before = Some(",\n");
        }
        before = before.or(Some("\n"));
    }
    output.line("\n]}")?;
    output.finish()
}
