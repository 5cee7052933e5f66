//! The client's half of the demo: sync, read back, compare, show.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use jiff::Timestamp;

use super::super::bars::{bar_row, bar_rows};
use super::super::client::{Client, ClientOptions};
use super::super::names::interval;
use super::super::output::Output;
use super::super::pages::Pages;
use super::super::progress::bar;
use super::super::times::{from_pb, show_duration};
use super::data::{self, FileTimes};
use super::live::{self, LIVE, SPEED};
use super::series::{DemoSeries, SERIES};
use crate::proto::v1::{Bar, BarOrder, GetBarsRequest, SyncResult, SyncSymbolRequest};

/// How often the bar on the terminal moves.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The daily series whose newest bars are shown.
const SHOWN: &str = "NYSE:IBM";
const SHOWN_BARS: u64 = 5;

/// What is shown, and where.
#[derive(Debug)]
pub(super) struct Tour {
    /// The service.
    pub(super) address: SocketAddr,
    /// What the files hold.
    pub(super) times: FileTimes,
}

impl Tour {
    /// Shows everything. A count that is not the file's is an error.
    pub(super) async fn run(&self, once: bool) -> anyhow::Result<()> {
        let client = Client::connect(ClientOptions::to(self.address)?).await?;
        let mut output = Output::stdout();
        output.line(format!(
            "serving gRPC on {}, on real bars of a simulated provider",
            self.address
        ))?;
        output.line("\nsyncing through gRPC:")?;
        output.flush()?;
        for series in &SERIES {
            let result = self.sync(&client, series).await?;
            output.line(format!(
                "  {:<22} {:>6} bars fetched, {} inserted, {} rejected, in {}",
                series.name(),
                result.bars_fetched,
                result.bars_inserted,
                result.bars_rejected,
                show_duration(result.elapsed),
            ))?;
            output.flush()?;
        }
        output.line("\nreading back through gRPC, 5000 bars a page:")?;
        self.compare(&client, &mut output).await?;
        newest_bars(&client, &mut output).await?;
        if once {
            live::first_bars(ClientOptions::to(self.address)?, &data::minutes()?, &mut output)
                .await?;
        }
        output.line(self.invitation())?;
        if once {
            return output.finish();
        }
        output.line(format!("{LIVE}, {SPEED} times as fast as it was; Ctrl-C ends it\n"))?;
        output.finish()?;
        live::run(ClientOptions::to(self.address)?).await
    }

    async fn sync(&self, client: &Client, series: &DemoSeries) -> anyhow::Result<SyncResult> {
        let request = client.request(SyncSymbolRequest {
            symbol: series.symbol.to_owned(),
            interval: interval(series.interval).into(),
            bar_count: None,
            full_history: series.full,
        });
        let mut market_data = client.market_data();
        let sync = client.answer(market_data.sync_symbol(request));
        let result = tokio::select! {
            result = sync => result,
            never = self.show_progress(client, series) => match never {},
        };
        result.with_context(|| format!("cannot sync {}", series.name()))
    }

    /// Moves a bar on the terminal until it is dropped.
    async fn show_progress(
        &self,
        client: &Client,
        series: &DemoSeries,
    ) -> std::convert::Infallible {
        if !io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        let times = self.times_of(series);
        let progress = Clearing(bar(u64::try_from(times.len()).unwrap_or_default(), series.name()));
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if let Some(oldest) = oldest_bar(client, series).await {
                let stored = series.stored(times, oldest);
                progress.0.set_position(u64::try_from(stored).unwrap_or_default());
            }
        }
    }

    fn times_of(&self, series: &DemoSeries) -> &[Timestamp] {
        self.times.get(series.file).map(Vec::as_slice).unwrap_or_default()
    }

    async fn compare(&self, client: &Client, output: &mut Output) -> anyhow::Result<()> {
        let mut different = Vec::new();
        for series in &SERIES {
            let (bars, pages) = read(client, series).await?;
            let times = self.times_of(series);
            let expected = series.expected(&bars, times)?;
            let equal = bars.len() == expected;
            let file = format!("{}.csv", series.file);
            let from = if series.rolled_up {
                format!("{expected} expected from the {} rows of {file}", times.len())
            } else {
                format!("{expected} rows in {file}")
            };
            let verdict = if equal { "equal" } else { "DIFFERENT" };
            let (name, count) = (series.name(), bars.len());
            let unit = if pages == 1 { "page" } else { "pages" };
            output.line(format!(
                "  {name:<22} {count:>6} bars, {from}: {verdict} ({pages} {unit})"
            ))?;
            output.flush()?;
            if !equal {
                different.push(name);
            }
        }
        if !different.is_empty() {
            bail!("the stored bars are not those of the files: {}", different.join(", "));
        }
        Ok(())
    }

    fn invitation(&self) -> String {
        let address = self.address;
        let server = address.to_string();
        let call = |data: &str, method: &str| {
            format!("  grpcurl -plaintext -d '{data}' {address} {method}\n")
        };
        let bars = r#"{"symbol":"NYSE:IBM","interval":"INTERVAL_1D","limit":3}"#;
        let sync = r#"{"symbol":"NYSE:IBM","interval":"INTERVAL_1W","bar_count":500}"#;
        let wrong = r#"{"symbol":"NYSE IBM","limit":0}"#;
        let mut text = String::from("\nwhile it runs, try it from another terminal:\n");
        text += &call(bars, "pocketquant.v1.MarketData/GetBars");
        text += &call(sync, "pocketquant.v1.MarketData/SyncSymbol");
        text += &call(r#"{"service":"readiness"}"#, "grpc.health.v1.Health/Check");
        text += &call(wrong, "pocketquant.v1.MarketData/GetBars");
        text += &call(r#"{"symbols":["CME:ES"]}"#, "pocketquant.v1.QuoteStream/StreamQuotes");
        for command in [&format!("watch bars {LIVE} -i 1m"), "bars BINANCE:BTCUSDT -n 10"] {
            text = text
                + "  pocketquant "
                + command
                + " --server http://"
                + &server
                + "
";
        }
        text
    }
}

/// A bar that leaves nothing behind on the terminal.
struct Clearing(ProgressBar);

impl Drop for Clearing {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// When the oldest stored bar of a series opens; nothing while there is none.
async fn oldest_bar(client: &Client, series: &DemoSeries) -> Option<Timestamp> {
    let mut pages = Pages::new(client, request(series, BarOrder::OldestFirst), Some(1));
    let page = pages.next().await.ok().flatten()?;
    from_pb(page.first()?.open_time)
}

/// All bars of a series, and how many pages they took.
async fn read(client: &Client, series: &DemoSeries) -> anyhow::Result<(Vec<Bar>, usize)> {
    let mut pages = Pages::new(client, request(series, BarOrder::OldestFirst), None);
    let (mut bars, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.next().await? {
        bars.extend(page);
        count += 1;
    }
    Ok((bars, count))
}

async fn newest_bars(client: &Client, output: &mut Output) -> anyhow::Result<()> {
    let Some(series) = SERIES.iter().find(|series| series.symbol == SHOWN) else { return Ok(()) };
    let mut pages = Pages::new(client, request(series, BarOrder::NewestFirst), Some(SHOWN_BARS));
    let mut rows = bar_rows();
    while let Some(page) = pages.next().await? {
        for bar in &page {
            rows.push(bar_row(bar));
        }
    }
    output.line(format!("\nthe newest bars of {}:", series.name()))?;
    output.table(&rows)
}

fn request(series: &DemoSeries, order: BarOrder) -> GetBarsRequest {
    GetBarsRequest {
        symbol: series.symbol.to_owned(),
        interval: interval(series.interval).into(),
        order: order.into(),
        ..GetBarsRequest::default()
    }
}
