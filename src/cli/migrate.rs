//! `migrate`: remove what an older version left double.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::{Align, Output, Rows};
use super::settings::SettingsArgs;
use crate::app;
use crate::features::market_data::takeover::{DoubleBar, TakeoverReport};

/// Remove the bars that an older version stamped at midnight, where the right ones are stored
///
/// An older PocketQuant stamped daily, weekly and monthly bars at 00:00 UTC, also where the symbol
/// has a session; the right bar opens with the session. Without --apply nothing is changed: what
/// would be removed is printed. Settings are those of `pocketquant serve`.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "clap shows it as it is")]
pub(super) struct Migrate {
    /// Remove them
    #[arg(long)]
    apply: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.load()?;
        let report = app::migrate(&settings, self.apply).await?;
        let mut output = Output::stdout();
        if self.json {
            output.json(&JsonReport::new(&report, self.apply))?;
        } else {
            print(&report, self.apply, &mut output)?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(report: &TakeoverReport, apply: bool, output: &mut Output) -> anyhow::Result<()> {
    if !report.doubles.is_empty() {
        output.table(&table(&report.doubles))?;
        output.line("")?;
    }
    let count = report.doubles.len();
    match (count, apply) {
        (0, _) => output.line("no bar is stored twice")?,
        (_, true) => output.line(format!("removed {} of these {count} bars", report.removed))?,
        (_, false) => output.line(format!(
            "{count} bars are stored twice and would be removed: run `pocketquant migrate --apply`"
        ))?,
    }
    if !report.waiting.is_empty() {
        output.line("")?;
        output.line(format!(
            "{} bars stay: the right ones are not stored; sync their series, then migrate again",
            report.waiting.len()
        ))?;
        output.table(&table(&report.waiting))?;
    }
    for series in &report.unconfirmed {
        output.line(format!(
            "{series}: the newest bar may have been stored unfinished; the next sync fetches it again"
        ))?;
    }
    Ok(())
}

fn table(bars: &[DoubleBar]) -> Rows {
    use Align::Left;
    let mut rows =
        Rows::new(&[("symbol", Left), ("interval", Left), ("bar", Left), ("right bar", Left)]);
    for bar in bars {
        rows.push(vec![
            bar.series.symbol.to_string(),
            bar.series.interval.to_string(),
            bar.open_time.to_string(),
            bar.right_open_time.to_string(),
        ]);
    }
    rows
}

/// What was found, for programs.
#[derive(Serialize)]
struct JsonReport {
    applied: bool,
    removed: u64,
    doubles: Vec<JsonBar>,
    waiting: Vec<JsonBar>,
    unconfirmed: Vec<JsonSeries>,
}

#[derive(Serialize)]
struct JsonBar {
    symbol: String,
    interval: &'static str,
    open_time: String,
    right_open_time: String,
}

#[derive(Serialize)]
struct JsonSeries {
    symbol: String,
    interval: &'static str,
}

impl JsonReport {
    fn new(report: &TakeoverReport, applied: bool) -> Self {
        let bars = |bars: &[DoubleBar]| bars.iter().map(JsonBar::from).collect();
        let unconfirmed = report.unconfirmed.iter().map(|series| JsonSeries {
            symbol: series.symbol.to_string(),
            interval: series.interval.as_str(),
        });
        Self {
            applied,
            removed: report.removed,
            doubles: bars(&report.doubles),
            waiting: bars(&report.waiting),
            unconfirmed: unconfirmed.collect(),
        }
    }
}

impl From<&DoubleBar> for JsonBar {
    fn from(bar: &DoubleBar) -> Self {
        Self {
            symbol: bar.series.symbol.to_string(),
            interval: bar.series.interval.as_str(),
            open_time: bar.open_time.to_string(),
            right_open_time: bar.right_open_time.to_string(),
        }
    }
}
