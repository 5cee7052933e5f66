//! `coverage`: why a series has bars, or none.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::names::{coverage_reason_text, interval};
use super::output::{Align, Output, Rows};
use super::series::{SeriesArgs, StretchArgs};
use super::times::{show_time, to_pb};
use crate::proto::v1::{GetCoverageRequest, Segment};

/// Show why a series has bars in a stretch of time, or none
///
/// Reasons: `data`; `market_closed` (session, holidays, early closes); `provider_empty` (it was
/// asked, and had none); `feed_down` (the feed was away: `pocketquant repair` asks the provider);
/// `no_trades` (the feed was there); `not_synced` (nobody has asked).
#[derive(Debug, Args)]
pub(super) struct Coverage {
    #[command(flatten)]
    series: SeriesArgs,
    #[command(flatten)]
    stretch: StretchArgs,
    /// Print JSON: an object with the array `segments`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Coverage {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { series, stretch, json, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let request = client.request(GetCoverageRequest {
            symbol: series.symbol.clone(),
            interval: interval(series.interval).into(),
            start_time: Some(to_pb(stretch.from)),
            end_time: Some(to_pb(stretch.to())),
        });
        let answer = client.answer(client.market_data().get_coverage(request)).await?;
        let mut output = Output::stdout();
        if json {
            output.json(&JsonCoverage {
                symbol: series.symbol.to_ascii_uppercase(),
                interval: series.interval.as_str(),
                segments: answer.segments.iter().map(JsonSegment::from).collect(),
            })?;
        } else {
            output.table(&segment_rows(&answer.segments))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A table of segments.
pub(super) fn segment_rows(segments: &[Segment]) -> Rows {
    use Align::{Left, Right};
    let mut rows = Rows::new(&[("from", Left), ("to", Left), ("reason", Left), ("bars", Right)]);
    for segment in segments {
        rows.push(vec![
            show_time(segment.start_time),
            show_time(segment.end_time),
            coverage_reason_text(segment.reason).to_owned(),
            segment.bar_count.to_string(),
        ]);
    }
    rows
}

/// A segment, for programs.
#[derive(Serialize)]
pub(super) struct JsonSegment {
    start_time: String,
    end_time: String,
    reason: &'static str,
    bar_count: i32,
}

impl From<&Segment> for JsonSegment {
    fn from(segment: &Segment) -> Self {
        Self {
            start_time: show_time(segment.start_time),
            end_time: show_time(segment.end_time),
            reason: coverage_reason_text(segment.reason),
            bar_count: segment.bar_count,
        }
    }
}

#[derive(Serialize)]
struct JsonCoverage {
    symbol: String,
    interval: &'static str,
    segments: Vec<JsonSegment>,
}
