//! The cells of a series: every instant lies in exactly one of them.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};

use super::TimeRange;
use crate::domain::ohlcv::BarRange;
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;

/// How far before a time its cell can begin: a month, a closed week and a day that opens on the
/// evening before.
const PERIODS_BACK: i64 = 2;

/// A stretch of time that one bar would cover, or that the market is closed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its time. A bar covers the cell that its open time lies in.
    pub range: TimeRange,
    /// The bar that belongs into it; none where the market is closed all the time.
    pub bar: Option<BarRange>,
}

/// The cells that overlap a stretch of time, in order, without overlap or hole. Intraday they are
/// the session grid's, and one for each time between sessions; a day's reaches from its session's
/// open, real or would-be, to that of the next calendar date; a week's and a month's from its first
/// open to the next one's. Cells at the ends reach beyond the stretch; closed ones do not.
#[derive(Clone, Debug)]
pub struct Cells {
    session: Arc<TradingSession>,
    interval: Interval,
    end: Timestamp,
    /// Where the next cell begins.
    from: Timestamp,
    /// The next date, or period's first date, to look at; none after the last.
    date: Option<Date>,
    ready: VecDeque<Cell>,
}

impl Cells {
    /// The cells of `interval` on `session` that overlap `[start, end)`.
    pub fn new(
        session: Arc<TradingSession>,
        interval: Interval,
        start: Timestamp,
        end: Timestamp,
    ) -> Self {
        let local = session.local_date(start);
        let mut cells =
            Self { session, interval, end, from: start, date: Some(local), ready: VecDeque::new() };
        for _ in 0..PERIODS_BACK {
            let before = cells.date.and_then(|date| cells.first_of(date).yesterday().ok());
            cells.date = before.or(cells.date);
        }
        if !interval.is_intraday() {
            cells.date = cells.date.map(|date| cells.first_of(date));
            cells.skip_to(start);
        }
        cells
    }

    /// The first date of the period that `date` lies in.
    fn first_of(&self, date: Date) -> Date {
        match self.interval {
            Interval::W1 => {
                let since_monday = i64::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(since_monday.days()).unwrap_or(date)
            }
            Interval::Mo1 => date.first_of_month(),
            Interval::M1
            | Interval::M3
            | Interval::M5
            | Interval::M15
            | Interval::M30
            | Interval::M45
            | Interval::H1
            | Interval::H2
            | Interval::H3
            | Interval::H4
            | Interval::D1 => date,
        }
    }

    /// The first date of the period after the one that begins on `date`.
    fn next_of(&self, date: Date) -> Option<Date> {
        let span = match self.interval {
            Interval::W1 => 7.days(),
            Interval::Mo1 => 1.month(),
            Interval::M1
            | Interval::M3
            | Interval::M5
            | Interval::M15
            | Interval::M30
            | Interval::M45
            | Interval::H1
            | Interval::H2
            | Interval::H3
            | Interval::H4
            | Interval::D1 => 1.day(),
        };
        date.checked_add(span).ok()
    }

    /// When the period that begins on `date` opens, or would.
    fn opens(&self, date: Date) -> Option<Timestamp> {
        let bar = self.session.period_range(self.interval, date);
        bar.map(|bar| bar.open()).or_else(|| self.session.usual_open(date))
    }

    /// Goes to the period that holds `start`.
    fn skip_to(&mut self, start: Timestamp) {
        while let Some(date) = self.date {
            let next = self
                .next_of(date)
                .filter(|next| self.opens(*next).is_some_and(|next_opens| next_opens <= start));
            if next.is_none() {
                let opens = self.opens(date);
                self.from = opens.filter(|opens| *opens <= start).unwrap_or(start);
                return;
            }
            self.date = next;
        }
    }

    fn next_period(&mut self) -> Option<Cell> {
        while let Some(date) = self.date {
            let next = self.next_of(date);
            self.date = next;
            let opens = next.and_then(|next| self.opens(next)).unwrap_or(Timestamp::MAX);
            if let Some(range) = BarRange::new(self.from, opens) {
                self.from = opens;
                return Some(Cell { range, bar: self.session.period_range(self.interval, date) });
            }
        }
        self.closed_until_the_end()
    }

    fn next_intraday(&mut self, minutes: u32) -> Option<Cell> {
        let last = self.session.local_date(self.end).tomorrow().ok();
        loop {
            if let Some(cell) = self.ready.pop_front() {
                self.from = cell.range.close();
                return Some(cell);
            }
            let Some(date) = self.date.filter(|date| last.is_none_or(|last| *date <= last)) else {
                return self.closed_until_the_end();
            };
            self.date = date.tomorrow().ok();
            self.add_day(date, minutes);
        }
    }

    /// Adds the cells of a trading day, with the closed time before each range of its hours.
    fn add_day(&mut self, date: Date, minutes: u32) {
        let mut from = self.from;
        for hours in self.session.ranges(date) {
            if let Some(closed) = BarRange::new(from, hours.open().min(self.end)) {
                self.ready.push_back(Cell { range: closed, bar: None });
                from = closed.close();
            }
            while from < hours.close() && from < self.end {
                let Some(bar) = hours.cell(minutes, from) else { break };
                self.ready.push_back(Cell { range: bar, bar: Some(bar) });
                from = bar.close();
            }
        }
    }

    fn closed_until_the_end(&mut self) -> Option<Cell> {
        let range = BarRange::new(self.from, self.end)?;
        self.from = self.end;
        Some(Cell { range, bar: None })
    }
}

impl Iterator for Cells {
    type Item = Cell;

    fn next(&mut self) -> Option<Cell> {
        if self.from >= self.end {
            return None;
        }
        match self.interval.minutes() {
            Some(minutes) => self.next_intraday(minutes),
            None => self.next_period(),
        }
    }
}
