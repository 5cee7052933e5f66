//! How syncs ended: a table, or JSON, and an exit code.

use std::process::ExitCode;

use serde::Serialize;

use super::failure::{CallError, complain};
use super::names::{history_end_text, interval_text, sync_state_text};
use super::output::{Align, Output, Rows};
use super::times::{show_duration, show_minute, show_time};
use crate::proto::v1::SyncResult;

/// How the sync of one symbol ended.
pub(super) struct Outcome {
    pub(super) symbol: String,
    /// As protobuf has it.
    pub(super) interval: i32,
    pub(super) result: Result<SyncResult, CallError>,
}

/// Prints what was done on stdout and the failures on stderr, or both as JSON; the exit code.
pub(super) fn print(outcomes: &[Outcome], json: bool) -> anyhow::Result<ExitCode> {
    let mut output = Output::stdout();
    if json {
        let reports: Vec<_> = outcomes.iter().map(Report::new).collect();
        output.json(&reports)?;
    } else if outcomes.iter().any(|each| each.result.is_ok()) {
        output.table(&table(outcomes))?;
    }
    output.finish()?;
    Ok(tell_failures(outcomes, json))
}

/// Names the failures; the exit code that they make.
fn tell_failures(outcomes: &[Outcome], told: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for Outcome { symbol, result, .. } in outcomes {
        if let Err(error) = result {
            code = ExitCode::FAILURE;
            if !told {
                complain(&format!("{symbol}: {error}"));
            }
        }
    }
    code
}

fn table(outcomes: &[Outcome]) -> Rows {
    use Align::{Count, Left, Right};
    let mut rows = Rows::new(&[
        ("symbol", Left),
        ("interval", Left),
        ("fetched", Right),
        ("inserted", Right),
        ("updated", Count),
        ("unchanged", Count),
        ("rejected", Count),
        ("total", Right),
        ("first (UTC)", Left),
        ("last (UTC)", Left),
        ("elapsed", Right),
        ("history", Left),
    ]);
    for result in outcomes.iter().filter_map(|each| each.result.as_ref().ok()) {
        let end = history_end_text(result.history_end);
        rows.push(vec![
            result.symbol.clone(),
            interval_text(result.interval).to_owned(),
            result.bars_fetched.to_string(),
            result.bars_inserted.to_string(),
            result.bars_updated.to_string(),
            result.bars_unchanged.to_string(),
            result.bars_rejected.to_string(),
            result.total_bars.to_string(),
            show_minute(result.first_bar_time),
            show_minute(result.last_bar_time),
            show_duration(result.elapsed),
            end.unwrap_or("more").to_owned(),
        ]);
    }
    rows
}

/// How the sync of one symbol ended, for programs.
#[derive(Serialize)]
#[serde(untagged)]
enum Report<'a> {
    Done {
        symbol: &'a str,
        interval: &'static str,
        state: &'static str,
        bars_fetched: i32,
        bars_inserted: i32,
        bars_updated: i32,
        bars_unchanged: i32,
        bars_rejected: i32,
        total_bars: i32,
        #[serde(skip_serializing_if = "String::is_empty")]
        first_bar_time: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        last_bar_time: String,
        elapsed: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        history_end: Option<&'static str>,
    },
    Failed {
        symbol: &'a str,
        interval: &'static str,
        error: &'a CallError,
    },
}

impl<'a> Report<'a> {
    fn new(outcome: &'a Outcome) -> Self {
        match &outcome.result {
            Ok(result) => Self::Done {
                symbol: &result.symbol,
                interval: interval_text(result.interval),
                state: sync_state_text(result.state),
                bars_fetched: result.bars_fetched,
                bars_inserted: result.bars_inserted,
                bars_updated: result.bars_updated,
                bars_unchanged: result.bars_unchanged,
                bars_rejected: result.bars_rejected,
                total_bars: result.total_bars,
                first_bar_time: show_time(result.first_bar_time),
                last_bar_time: show_time(result.last_bar_time),
                elapsed: show_duration(result.elapsed),
                history_end: history_end_text(result.history_end),
            },
            Err(error) => {
                let interval = interval_text(outcome.interval);
                Self::Failed { symbol: &outcome.symbol, interval, error }
            }
        }
    }
}
