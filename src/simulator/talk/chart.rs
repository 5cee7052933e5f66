//! Chart sessions: the frame in which symbols are resolved and a series is shown.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Dialogue;
use super::resolve::Resolved;
use super::series::SeriesState;
use crate::simulator::wire::{Answer, Request, Resolution, node, read_resolution};

/// A chart session: what was resolved in it, and its one series.
#[derive(Debug, Default)]
pub(super) struct ChartSession {
    pub(super) resolved: HashMap<String, Resolved>,
    pub(super) series: Option<SeriesState>,
}

/// Symbols that one chart session may resolve.
const MAX_RESOLVED: usize = 1_000;

impl ChartSession {
    /// Lets `name` stand for `resolved`; false where there are too many names.
    pub(super) fn remember(&mut self, name: &str, resolved: Resolved) -> bool {
        let fits = self.resolved.len() < MAX_RESOLVED;
        if fits {
            self.resolved.insert(name.to_owned(), resolved);
        }
        fits
    }
}

impl Dialogue {
    pub(super) fn create_chart_session(&mut self, request: &Request, now: Instant) {
        let Some(session) = request.text(0).filter(|session| !session.is_empty()) else {
            return self.critical(now, request, "invalid parameters");
        };
        if self.charts.contains_key(session) {
            return self.critical(now, request, "duplicate id");
        }
        if self.opens_session(request, now) {
            self.shared.stats.chart_sessions.add(1);
            self.charts.insert(session.to_owned(), ChartSession::default());
        }
    }

    pub(super) fn delete_chart_session(&mut self, request: &Request) {
        if let Some(session) = request.text(0) {
            self.charts.remove(session);
        }
    }

    /// A time zone never changes a time stamp; it must exist, though.
    pub(super) fn switch_timezone(&mut self, request: &Request, now: Instant) {
        let zone = request.text(1).unwrap_or_default();
        if zone != "exchange" && jiff::tz::TimeZone::get(zone).is_err() {
            self.critical(now, request, "invalid timezone");
        }
    }

    /// Where a client looks for the time axis of days to come. It stays empty here.
    pub(super) fn request_more_tickmarks(&mut self, request: &Request, now: Instant) {
        let session = request.text(0).unwrap_or_default();
        if !self.charts.contains_key(session) {
            return self.critical(now, request, "invalid parameters");
        }
        let axis = json!({"index": 0, "zoffset": 0, "changes": [], "marks": [], "index_diff": []});
        let answer = Answer::at("tickmark_update", (session, axis), self.shared.clock.now());
        self.outbox.send(now, answer.text());
    }

    pub(super) fn get_first_bar_time(&mut self, request: &Request, now: Instant) {
        let session = request.text(0).unwrap_or_default();
        let name = request.text(1).unwrap_or_default();
        let resolved = self.charts.get(session).and_then(|chart| chart.resolved.get(name));
        let resolution = request.text(2).and_then(read_resolution);
        let (Some(resolved), Some(Resolution::Served(interval))) = (resolved, resolution) else {
            return self.critical(now, request, "invalid parameters");
        };
        let Some(instrument) = resolved.instrument.clone() else {
            return self.critical(now, request, "invalid parameters");
        };
        let Some(due) = self.gate(Some(&instrument.facts().symbol), now) else { return };
        let history = instrument.history(interval);
        let first = history.and_then(|history| history.bars.first().map(|bar| bar.open_time));
        let parameters = (session, name, first.map(Timestamp::as_second));
        let now = self.shared.time_of(Some(&instrument));
        let answer = Answer::at("first_bar_time", parameters, now);
        self.outbox.send(due, answer.text());
    }

    /// There are no studies here; they fail as an unknown script does.
    pub(super) fn create_study(&mut self, request: &Request, now: Instant) {
        let text = |index| request.value(index).and_then(Value::as_str).unwrap_or_default();
        let Some(due) = self.gate(None, now) else { return };
        let (session, study) = (text(0), text(1));
        let turnaround = format!("{}_{}", text(3), text(2));
        let reason = "check study unexpected error";
        let parameters = (session, study, turnaround, reason, node());
        let answer = Answer::at("study_error", parameters, self.shared.clock.now());
        self.outbox.send(due, answer.text());
    }
}
