//! `repair`: ask the provider for what is missing.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::coverage::{JsonSegment, segment_rows};
use super::key::KeyOption;
use super::names::{history_end_text, interval};
use super::output::Output;
use super::series::{SeriesArgs, StretchArgs};
use super::times::to_pb;
use crate::proto::v1::RepairGapsRequest;

/// Ask the provider for what a series misses in a stretch of time
///
/// That is what `pocketquant coverage` calls `feed_down` and `not_synced`. Shows what was missing
/// and is not any more, as it is now.
#[derive(Debug, Args)]
pub(super) struct Repair {
    #[command(flatten)]
    series: SeriesArgs,
    #[command(flatten)]
    stretch: StretchArgs,
    /// Print JSON: an object with the counts of the sync and the array `segments`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    client: ClientOptions,
}

impl Repair {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { series, stretch, json, key, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let request = client.request(RepairGapsRequest {
            symbol: series.symbol.clone(),
            interval: interval(series.interval).into(),
            start_time: Some(to_pb(stretch.from)),
            end_time: Some(to_pb(stretch.to())),
        });
        let request = key.whole().on(request);
        let answer = client.answer(client.market_data().repair_gaps(request)).await?;
        let result = answer.result.unwrap_or_default();
        let mut output = Output::stdout();
        if json {
            output.json(&JsonRepair {
                symbol: series.symbol.to_ascii_uppercase(),
                interval: series.interval.as_str(),
                bars_fetched: result.bars_fetched,
                bars_inserted: result.bars_inserted,
                bars_updated: result.bars_updated,
                bars_unchanged: result.bars_unchanged,
                bars_rejected: result.bars_rejected,
                total_bars: result.total_bars,
                history_end: history_end_text(result.history_end),
                segments: answer.segments.iter().map(JsonSegment::from).collect(),
            })?;
        } else if answer.segments.is_empty() {
            output.line(format_args!("nothing repaired; {} bars fetched", result.bars_fetched))?;
        } else {
            output.table(&segment_rows(&answer.segments))?;
            let (fetched, inserted) = (result.bars_fetched, result.bars_inserted);
            output.line(format_args!("{fetched} bars fetched, {inserted} inserted"))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What came of a repair, for programs.
#[derive(Serialize)]
struct JsonRepair {
    symbol: String,
    interval: &'static str,
    bars_fetched: i32,
    bars_inserted: i32,
    bars_updated: i32,
    bars_unchanged: i32,
    bars_rejected: i32,
    total_bars: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_end: Option<&'static str>,
    segments: Vec<JsonSegment>,
}
