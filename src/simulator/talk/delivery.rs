//! Sends pages of bars, and spoils them where a fault says so.

use std::ops::Range;

use tokio::time::Instant;

use super::Dialogue;
use super::bars_message::{Row, VolumeForm, timescale_update};
use super::outbox::Outbox;
use super::series::SeriesState;
use super::timescale::Timescale;
use crate::domain::shared::Symbol;
use crate::simulator::wire::{Answer, append_frame};
use crate::simulator::world::WorldBar;
use crate::simulator::{FaultKind, Shared};

/// What comes in place of an answer: no frame, no JSON, no message.
const GARBAGE: [&str; 4] =
    ["\u{fffd}\u{1}not a frame", "~m~7~m~{\"m\":[}", "~m~6~m~[1,2,]", "~m~zz~m~{}"];

/// Bytes that `huge` sends unless told otherwise.
const HUGE: u32 = 2_000_000;

/// The most that `huge` sends.
const MOST_HUGE: u32 = 256_000_000;

impl Dialogue {
    /// Sends the bars `page` of `series`, and that it is complete. `series.window` holds what the
    /// client knows with them.
    pub(super) fn send_page(
        &mut self,
        due: Instant,
        mut series: SeriesState,
        page: Range<usize>,
        frame: &str,
    ) {
        let symbol = series.instrument.facts().symbol.clone();
        if self.shared.faults.is_on(FaultKind::Garbage, Some(&symbol)) {
            send_garbage(&mut self.outbox, due);
            return self.keep(series);
        }
        let cut = self.cut_after(&symbol, series.sent, page.len());
        let whole = page.clone();
        let page = page.start..page.end.min(page.start + cut.unwrap_or(page.len()));
        series.sent += page.len();
        self.shared.stats.bars_sent.add(page.len());
        if !page.is_empty() || whole == series.window {
            let text = self.page_text(&series, page);
            self.send_bars(due, &symbol, text);
        }
        if cut.is_some() {
            self.outbox.cut(due);
            return self.keep(series);
        }
        self.say_timeframe(due, &series, &whole, frame);
        if !self.shared.faults.is_on(FaultKind::NoCompleted, Some(&symbol)) {
            self.say_completed(due, &series);
        }
        self.answered_with_bars(due);
        self.keep(series);
    }

    fn keep(&mut self, series: SeriesState) {
        if let Some(chart) = self.charts.get_mut(&series.session) {
            chart.series = Some(series);
        }
    }

    /// After how many bars of a page of `length` the connection ends; none where it does not.
    fn cut_after(&self, symbol: &Symbol, sent: usize, length: usize) -> Option<usize> {
        let fault = self.shared.faults.find(FaultKind::CutMidHistory, Some(symbol))?;
        let Some(limit) = fault.number() else { return Some(length / 2) };
        let left = usize::try_from(limit).ok()?.saturating_sub(sent);
        (left < length).then_some(left)
    }

    fn page_text(&self, series: &SeriesState, page: Range<usize>) -> String {
        let bars = series.bars.get(page.clone()).unwrap_or_default();
        let first = page.start.saturating_sub(series.window.start);
        // What lies before bars that were known moves these.
        let moved = if series.window.end > page.end { page.len() } else { 0 };
        let facts = series.instrument.facts();
        let timescale = Timescale::new(bars, first, moved, series.interval, &facts.session);
        let rows = rows(&self.shared, series, page, first);
        let newest = series.bars.get(..series.window.end).and_then(<[WorldBar]>::last);
        let closes =
            newest.map(|bar| series.instrument.bounds_of(series.interval, bar.open_time).close());
        let names = (series.session.as_str(), series.id.as_str(), series.turnaround.as_str());
        timescale_update(names, &rows, &timescale, closes, self.time_of(series))
    }

    fn send_bars(&mut self, due: Instant, symbol: &Symbol, mut text: String) {
        let faults = &self.shared.faults;
        if let Some(huge) = faults.find(FaultKind::Huge, Some(symbol)) {
            let size = huge.number().unwrap_or(HUGE).min(MOST_HUGE);
            let missing = usize::try_from(size).unwrap_or_default().saturating_sub(text.len());
            text.pop();
            text.push_str(",\"padding\":\"");
            text.extend(std::iter::repeat_n('x', missing));
            text.push_str("\"}");
        }
        if faults.is_on(FaultKind::TruncatedFrame, Some(symbol)) {
            let mut message = String::new();
            append_frame(&mut message, &text);
            let half = (message.len() / 2..message.len()).find(|at| message.is_char_boundary(*at));
            message.truncate(half.unwrap_or_default());
            return self.outbox.send_raw(due, message);
        }
        self.outbox.send(due, text);
    }

    fn say_timeframe(
        &mut self,
        due: Instant,
        series: &SeriesState,
        page: &Range<usize>,
        frame: &str,
    ) {
        let first = page.start.saturating_sub(series.window.start);
        let last = page.end.saturating_sub(series.window.start).saturating_sub(1).max(first);
        let parameters =
            (&series.session, &series.id, &series.turnaround, first, last, frame, true);
        self.outbox.send(due, Answer::new("series_timeframe", parameters).text());
    }
}

/// Sends what is no answer.
pub(super) fn send_garbage(outbox: &mut Outbox, due: Instant) {
    for garbage in GARBAGE {
        outbox.send_raw(due, garbage.to_owned());
    }
}

/// The bars `page` of `series` as they are sent, which is not always as they are.
fn rows(shared: &Shared, series: &SeriesState, page: Range<usize>, first: usize) -> Vec<Row> {
    let facts = series.instrument.facts();
    let on = |kind| shared.faults.is_on(kind, Some(&facts.symbol));
    let newest_of = |kind: FaultKind| {
        let fault = shared.faults.find(kind, Some(&facts.symbol));
        fault.map_or(0, |fault| fault.number().unwrap_or(1) as usize)
    };
    let (revised, invalid) = (newest_of(FaultKind::Revise), newest_of(FaultKind::InvalidBars));
    let tick = f64::from(facts.minmov) / f64::from(facts.price_scale);
    let volume = match (on(FaultKind::NullVolume), facts.has_volume && !on(FaultKind::NoVolume)) {
        (_, false) => VolumeForm::Left,
        (true, true) => VolumeForm::Null,
        (false, true) => VolumeForm::Plain,
    };
    let (total, end) = (series.bars.len(), page.end);
    let mut rows = Vec::with_capacity(page.len());
    for (at, bar) in page.clone().zip(series.bars.get(page).unwrap_or_default()) {
        let mut bar = *bar;
        if total - at <= revised {
            bar = shifted(bar, tick);
        }
        if end - at <= invalid {
            bar.high = bar.low - tick;
        }
        rows.push(Row { index: first + rows.len(), bar, volume });
    }
    if on(FaultKind::Reorder) {
        rows.chunks_mut(2).for_each(<[Row]>::reverse);
    }
    if on(FaultKind::Duplicates) {
        rows = rows.into_iter().flat_map(|row| [row, row]).collect();
    }
    rows
}

/// The bar with every price one tick higher.
fn shifted(bar: WorldBar, tick: f64) -> WorldBar {
    WorldBar {
        open: bar.open + tick,
        high: bar.high + tick,
        low: bar.low + tick,
        close: bar.close + tick,
        ..bar
    }
}
