//! When an instrument trades, and so where its bars begin and end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

use super::session_grammar::{
    Hours, SessionError, SessionSpec, Week, parse_corrections, parse_holidays, parse_week,
};
use crate::domain::ohlcv::BarRange;
use crate::domain::shared::Interval;

/// The session text of an instrument that never closes. Its days are UTC days, and every day is one.
pub const AROUND_THE_CLOCK: &str = "24x7";

/// How many days are searched for the next session; the longest closure on record (New York,
/// 1914) took less.
const SEARCH_DAYS: i64 = 400;

/// The trading hours of an instrument: time zone, ranges of each weekday, holidays and corrected
/// days. Bounds are computed occurrence by occurrence in the time zone, never by adding 86,400 s.
#[derive(Clone, Debug)]
pub struct TradingSession {
    zone: TimeZone,
    week: Week,
    holidays: BTreeSet<Date>,
    corrections: BTreeMap<Date, Vec<Hours>>,
}

impl TradingSession {
    /// Trading at all times, by UTC days: for crypto, and where the session is not known.
    pub fn around_the_clock() -> Self {
        Self {
            zone: TimeZone::UTC,
            week: std::array::from_fn(|_| vec![Hours::WHOLE_DAY]),
            holidays: BTreeSet::new(),
            corrections: BTreeMap::new(),
        }
    }

    /// The session that `spec` describes.
    pub fn parse(spec: &SessionSpec) -> Result<Self, SessionError> {
        if spec.session == AROUND_THE_CLOCK {
            return Ok(Self::around_the_clock());
        }
        let unknown_zone = |_| SessionError::TimeZone(spec.timezone.clone());
        Ok(Self {
            zone: TimeZone::get(&spec.timezone).map_err(unknown_zone)?,
            week: parse_week(&spec.session)?,
            holidays: parse_holidays(&spec.holidays)?,
            corrections: parse_corrections(&spec.corrections)?,
        })
    }

    /// The bar of `interval` that holds `time`; none outside of the session. A week's and a
    /// month's bar reaches from its first session's open to its last one's close.
    pub fn bar_range(&self, interval: Interval, time: Timestamp) -> Option<BarRange> {
        let (date, hours) = self.occurrence_at(time)?;
        match interval.minutes() {
            Some(minutes) => hours.cell(minutes, time),
            None => self.period_range(interval, date),
        }
    }

    /// The time covered by a provider's bar that opens at `open_time`. On the grid it is
    /// [`bar_range`](Self::bar_range). Off it the bar keeps its open time and closes with the bar
    /// that holds it; outside of the session it closes after its length or when the next session
    /// opens (intraday), or with the period of the next session (days, weeks, months).
    pub fn bounds_of(&self, interval: Interval, open_time: Timestamp) -> BarRange {
        let length = interval.nominal_length();
        let after_length = open_time.saturating_add(length).unwrap_or(Timestamp::MAX);
        let close = match self.bar_range(interval, open_time) {
            Some(range) => range.close(),
            None => match (self.next_occurrence(open_time), interval.is_intraday()) {
                (Some((_, hours)), true) => hours.open().min(after_length),
                (Some((date, hours)), false) => {
                    self.period_range(interval, date).unwrap_or(hours).close()
                }
                (None, _) => after_length,
            },
        };
        let instant = || BarRange::new(Timestamp::MIN, Timestamp::MAX);
        BarRange::new(open_time, close)
            .or_else(|| BarRange::new(open_time, Timestamp::MAX))
            .or_else(instant)
            .unwrap_or_else(|| unreachable!("the least timestamp is below the greatest"))
    }

    /// The range of trading hours that holds `time`; none outside of the session.
    pub fn hours_at(&self, time: Timestamp) -> Option<BarRange> {
        self.occurrence_at(time).map(|(_, hours)| hours)
    }

    /// The trading day that `time` belongs to; none outside of the session.
    pub fn trading_day_at(&self, time: Timestamp) -> Option<Date> {
        self.occurrence_at(time).map(|(date, _)| date)
    }

    /// The time of the trading day `date`, from its first open to its last close; none where it
    /// is closed all day.
    pub fn day_range(&self, date: Date) -> Option<BarRange> {
        let ranges = self.ranges(date);
        BarRange::new(ranges.first()?.open(), ranges.last()?.close())
    }

    /// The first trading hours that open at or after `time`.
    pub fn next_hours(&self, time: Timestamp) -> Option<BarRange> {
        self.next_occurrence(time).map(|(_, hours)| hours)
    }

    /// The calendar date that `time` lies on in the session's time zone.
    pub fn local_date(&self, time: Timestamp) -> Date {
        self.zone.to_datetime(time).date()
    }

    /// When the trading day `date` opens by the week's plan, holidays and corrected days or not;
    /// on a weekday that has no session, when the first one that has would.
    pub fn usual_open(&self, date: Date) -> Option<Timestamp> {
        let index = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or_default();
        let usual = self.week.get(index).filter(|hours| !hours.is_empty());
        let any = || self.week.iter().find(|hours| !hours.is_empty());
        let hours = usual.or_else(any)?.first()?;
        self.instant(date, hours.start)
    }

    /// Each range of trading hours on the trading day `date`, in order.
    pub fn ranges(&self, date: Date) -> Vec<BarRange> {
        let bounds = |hours: &Hours| {
            BarRange::new(self.instant(date, hours.start)?, self.instant(date, hours.end)?)
        };
        self.hours_on(date).iter().filter_map(bounds).collect()
    }

    fn hours_on(&self, date: Date) -> &[Hours] {
        if let Some(corrected) = self.corrections.get(&date) {
            return corrected;
        }
        if self.holidays.contains(&date) {
            return &[];
        }
        let index = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or_default();
        self.week.get(index).map(Vec::as_slice).unwrap_or_default()
    }

    /// A time of day that a clock change skips or repeats is taken as the zone's rules before a
    /// gap and the first of a repetition (RFC 5545, 3.3.5).
    fn instant(&self, date: Date, minutes: i32) -> Option<Timestamp> {
        let day = date.checked_add(Span::new().days(minutes.div_euclid(1_440))).ok()?;
        let minute = minutes.rem_euclid(1_440);
        let time = Time::new((minute / 60).try_into().ok()?, (minute % 60).try_into().ok()?, 0, 0);
        self.zone.to_timestamp(day.to_datetime(time.ok()?)).ok()
    }

    fn occurrence_at(&self, time: Timestamp) -> Option<(Date, BarRange)> {
        let today = self.zone.to_datetime(time).date();
        // An evening may belong to the trading day after it.
        [today.checked_add(1.day()).ok(), Some(today)].into_iter().flatten().find_map(|date| {
            let hours = self.ranges(date).into_iter().find(|hours| hours.contains(time))?;
            Some((date, hours))
        })
    }

    fn next_occurrence(&self, time: Timestamp) -> Option<(Date, BarRange)> {
        let today = self.zone.to_datetime(time).date();
        (0..SEARCH_DAYS).find_map(|days| {
            let date = today.checked_add(days.days()).ok()?;
            let hours = self.ranges(date).into_iter().find(|hours| hours.open() >= time)?;
            Some((date, hours))
        })
    }

    /// The bar of a day, week or month that `date` belongs to; none where it has no session. For
    /// an intraday `interval` it is the day's.
    pub fn period_range(&self, interval: Interval, date: Date) -> Option<BarRange> {
        let (first, days) = match interval {
            Interval::W1 => {
                let since_monday = i64::from(date.weekday().to_monday_zero_offset());
                (date.checked_sub(since_monday.days()).ok()?, 7)
            }
            Interval::Mo1 => (date.first_of_month(), i64::from(date.days_in_month())),
            Interval::D1
            | Interval::M1
            | Interval::M3
            | Interval::M5
            | Interval::M15
            | Interval::M30
            | Interval::M45
            | Interval::H1
            | Interval::H2
            | Interval::H3
            | Interval::H4 => return self.day_range(date),
        };
        let day = |offset: i64| self.day_range(first.checked_add(offset.days()).ok()?);
        let open = (0..days).find_map(day)?.open();
        let close = (0..days).rev().find_map(day)?.close();
        BarRange::new(open, close)
    }
}
