//! Series: bars of one instrument, page by page.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::Dialogue;
use super::page::{BarsAsked, count, framed};
use super::resolve::Resolved;
use crate::domain::shared::Interval;
use crate::simulator::FaultKind;
use crate::simulator::wire::{Answer, Request, Resolution, node, read_resolution};
use crate::simulator::world::{History, Instrument, WorldBar};

/// Bars that `modify_series` shows where no count was ever given.
const DEFAULT_BARS: usize = 300;

/// Known bars that come again with older ones.
pub(super) const REPEATED: usize = 2;

/// A series that is shown.
#[derive(Clone, Debug)]
pub(super) struct SeriesState {
    pub(super) session: String,
    pub(super) id: String,
    pub(super) turnaround: String,
    pub(super) instrument: Arc<Instrument>,
    pub(super) interval: Interval,
    pub(super) bars: Arc<[WorldBar]>,
    /// When these were all there was, where the instrument has a time of its own.
    pub(super) as_of: Option<Timestamp>,
    /// What the client knows.
    pub(super) window: Range<usize>,
    /// Bars sent so far, for faults that count.
    pub(super) sent: usize,
    resolve_name: String,
    asked: usize,
}

/// The bars of an instrument at an interval.
type Opened = (Interval, History, Arc<Instrument>);

/// What `create_series` and `modify_series` have in common.
struct Ask<'a> {
    session: &'a str,
    id: &'a str,
    turnaround: &'a str,
    resolve_name: &'a str,
    resolution: Resolution,
    resolution_text: &'a str,
    bars: BarsAsked,
    frame: &'a str,
}

impl Dialogue {
    pub(super) fn create_series(&mut self, request: &Request, now: Instant) {
        self.shared.stats.series_requests.add(1);
        let bars = request.value(5).and_then(BarsAsked::read);
        let Some(ask) = bars.and_then(|bars| Ask::read(request, bars, 6)) else {
            return self.critical(now, request, "invalid parameters");
        };
        let Some(chart) = self.charts.get(ask.session) else {
            return self.critical(now, request, "invalid parameters");
        };
        if let Some(series) = &chart.series {
            let same = series.id == ask.id;
            let limit = "exceed limit of series in the session";
            return self.critical(now, request, if same { "duplicate id" } else { limit });
        }
        let Some(resolved) = chart.resolved.get(ask.resolve_name).cloned() else {
            return self.critical(now, request, "invalid parameters");
        };
        self.show(request, &ask, &resolved, None, now);
    }

    pub(super) fn modify_series(&mut self, request: &Request, now: Instant) {
        self.shared.stats.series_requests.add(1);
        let chart = request.text(0).and_then(|session| self.charts.get(session));
        let series = chart.and_then(|chart| chart.series.clone());
        let series = series.filter(|series| Some(series.id.as_str()) == request.text(1));
        let asked = series.as_ref().map_or(DEFAULT_BARS, |series| series.asked);
        let ask = Ask::read(request, BarsAsked::Newest(asked), 5);
        let (Some(chart), Some(ask), Some(series)) = (chart, ask, series) else {
            return self.critical(now, request, "invalid parameters");
        };
        let Some(resolved) = chart.resolved.get(ask.resolve_name).cloned() else {
            return self.critical(now, request, "invalid parameters");
        };
        self.show(request, &ask, &resolved, Some(series), now);
    }

    fn show(
        &mut self,
        request: &Request,
        ask: &Ask<'_>,
        resolved: &Resolved,
        before: Option<SeriesState>,
        now: Instant,
    ) {
        let symbol = resolved.instrument.as_ref().map(|known| known.facts().symbol.clone());
        let Some(due) = self.gate(symbol.as_ref(), now) else { return };
        let faults = &self.shared.faults;
        if faults.is_on(FaultKind::ExceedSeries, symbol.as_ref()) {
            return self.critical(due, request, "exceed limit of series in the session");
        }
        let refused = faults.find(FaultKind::SeriesError, symbol.as_ref());
        let refused =
            refused.map(|fault| fault.arg().unwrap_or("resolution_not_entitled").to_owned());
        let names = (ask.session, ask.id, ask.turnaround);
        self.say_loading(due, names, resolved.instrument.as_deref());
        let due = due.max(resolved.ready_at);
        let opened = match (refused, &resolved.instrument) {
            (Some(reason), _) => Err(reason),
            (None, Some(instrument)) => ask.open(instrument),
            (None, None) => Err("resolve error".to_owned()),
        };
        let (interval, History { bars, as_of }, instrument) = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                let parameters = (ask.session, ask.id, ask.turnaround, reason, node());
                let now = self.shared.time_of(resolved.instrument.as_deref());
                let answer = Answer::at("series_error", parameters, now);
                return self.outbox.send(due, answer.text());
            }
        };
        let floor = self.floor(bars.len());
        let window = framed(ask.frame, &bars, floor);
        let window = window.unwrap_or_else(|| ask.bars.window(&bars, floor));
        let fresh = SeriesState {
            session: ask.session.to_owned(),
            id: ask.id.to_owned(),
            turnaround: ask.turnaround.to_owned(),
            resolve_name: ask.resolve_name.to_owned(),
            instrument,
            interval,
            bars,
            as_of,
            window,
            sent: 0,
            asked: match ask.bars {
                BarsAsked::Newest(count)
                | BarsAsked::Until(_, count)
                | BarsAsked::From(_, count) => count,
            },
        };
        let (series, new) = match before.filter(|before| before.is_same_as(&fresh)) {
            Some(before) => before.widened(fresh),
            None => (fresh.clone(), fresh.window),
        };
        self.send_page(due, series, new, ask.frame);
    }

    pub(super) fn request_more_data(&mut self, request: &Request, now: Instant) {
        self.shared.stats.more_data_requests.add(1);
        let chart = request.text(0).and_then(|session| self.charts.get(session));
        let series = chart.and_then(|chart| chart.series.clone());
        let series = series.filter(|series| Some(series.id.as_str()) == request.text(1));
        let (Some(mut series), Some(count)) = (series, request.value(2).and_then(count)) else {
            return self.critical(now, request, "invalid parameters");
        };
        let symbol = series.instrument.facts().symbol.clone();
        let Some(due) = self.gate(Some(&symbol), now) else { return };
        let names = (series.session.as_str(), series.id.as_str(), series.turnaround.as_str());
        self.say_loading(due, names, Some(&series.instrument));
        series.renew();
        let known = series.window.start;
        let start = known.saturating_sub(count).max(self.floor(series.bars.len())).min(known);
        let repeated = (known + REPEATED).min(series.window.end);
        let new = if start < known { start..repeated } else { known..known };
        series.window.start = start;
        self.send_page(due, series, new, "");
    }

    pub(super) fn remove_series(&mut self, request: &Request, now: Instant) {
        let session = request.text(0).unwrap_or_default();
        let series = self.charts.get_mut(session).and_then(|chart| {
            chart.series.take_if(|series| Some(series.id.as_str()) == request.text(1))
        });
        let Some(series) = series else {
            return self.critical(now, request, "invalid parameters");
        };
        let Some(due) = self.gate(Some(&series.instrument.facts().symbol), now) else { return };
        let now = self.shared.time_of(Some(&series.instrument));
        let answer = Answer::at("series_deleted", (session, series.id), now);
        self.outbox.send(due, answer.text());
    }

    fn say_loading(
        &mut self,
        due: Instant,
        names: (&str, &str, &str),
        instrument: Option<&Instrument>,
    ) {
        let answer = Answer::at("series_loading", names, self.shared.time_of(instrument));
        self.outbox.send(due, answer.text());
    }

    /// The first bar of `total` that is reachable.
    fn floor(&self, total: usize) -> usize {
        self.shared.settings.history_limit.map_or(0, |limit| total.saturating_sub(limit))
    }

    /// The server's time with the bars of `series`: no later than what they know.
    pub(super) fn time_of(&self, series: &SeriesState) -> Timestamp {
        let clock = &self.shared.clock;
        series.as_of.map_or_else(|| clock.now(), |as_of| clock.told(as_of))
    }

    /// The page's end: with why there is no more, where there is not.
    pub(super) fn say_completed(&mut self, due: Instant, series: &SeriesState) {
        let floor = self.floor(series.bars.len());
        let reached = series.window.start <= floor;
        let info = match (reached, floor) {
            (true, 0) => json!({"rt_update_period": 5, "data_completed": "end"}),
            (true, _) => json!({"rt_update_period": 5, "data_completed": "limit"}),
            (false, _) => json!({"rt_update_period": 5}),
        };
        let parameters = (&series.session, &series.id, "streaming", &series.turnaround, info);
        let answer = Answer::at("series_completed", parameters, self.time_of(series));
        self.outbox.send(due, answer.text());
    }
}

impl<'a> Ask<'a> {
    fn read(request: &'a Request, bars: BarsAsked, frame: usize) -> Option<Self> {
        let resolution_text = request.text(4)?;
        Some(Self {
            session: request.text(0)?,
            id: request.text(1).filter(|id| !id.is_empty())?,
            turnaround: request.text(2)?,
            resolve_name: request.text(3)?,
            resolution: read_resolution(resolution_text)?,
            resolution_text,
            bars,
            frame: request.text(frame).unwrap_or_default(),
        })
    }

    fn open(&self, instrument: &Arc<Instrument>) -> Result<Opened, String> {
        let interval = match self.resolution {
            Resolution::Served(interval) => interval,
            Resolution::Refused(reason) => return Err(reason.to_owned()),
        };
        let symbol = &instrument.facts().symbol;
        let bars = instrument
            .history(interval)
            .ok_or_else(|| format!("unsupported resolution: {symbol}, {}", self.resolution_text))?;
        Ok((interval, bars, Arc::clone(instrument)))
    }
}

impl SeriesState {
    /// Looks at the bars again, where they move and none of those that the client knows were
    /// forgotten since.
    fn renew(&mut self) {
        let fresh = self.instrument.history(self.interval);
        let Some(fresh) = fresh.filter(|_| self.as_of.is_some()) else { return };
        let known = self.window.end.checked_sub(1).unwrap_or(self.window.start);
        let opens = |bars: &[WorldBar]| bars.get(known).map(|bar| bar.open_time);
        if opens(&fresh.bars) == opens(&self.bars) {
            (self.bars, self.as_of) = (fresh.bars, fresh.as_of);
        }
    }

    fn is_same_as(&self, other: &Self) -> bool {
        self.interval == other.interval
            && self.resolve_name == other.resolve_name
            && Arc::ptr_eq(&self.bars, &other.bars)
    }

    /// The same series with the window of `other` added, and the bars that are new with it: those
    /// that the client knows do not come again.
    fn widened(self, other: Self) -> (Self, Range<usize>) {
        let (known, asked) = (self.window.clone(), other.window.clone());
        if known.is_empty() {
            return (Self { sent: self.sent, ..other }, asked);
        }
        let new = if asked.start < known.start {
            asked.start..known.start
        } else if asked.end > known.end {
            known.end..asked.end
        } else {
            known.end..known.end
        };
        let window = known.start.min(asked.start)..known.end.max(asked.end);
        (Self { window, sent: self.sent, asked: self.asked, ..other }, new)
    }
}
