//! Reads sessions, holidays and corrections as TradingView writes them.
//!
//! The grammar is that of its public charting library: `24x7`; `HHMM-HHMM` in exchange time;
//! several ranges by `,`; day lists such as `:23456` (1 is Sunday), Monday to Friday without one;
//! groups with day lists of their own by `|`. Days name the trading day: a range whose start is
//! not before its end starts on the evening before. Corrections are
//! `RANGES:DATE[,DATE...][;RANGES:DATE...]`, where `dayoff` stands for no ranges at all.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Weekday};
use thiserror::Error;

/// Minutes in a day.
const DAY: i32 = 1_440;

/// A session as a provider describes it and as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionSpec {
    /// IANA name, such as `America/New_York`.
    pub timezone: String,
    /// Such as `0930-1600`, `1700-1600` or `24x7`.
    pub session: String,
    /// `YYYYMMDD` by commas; may be empty.
    pub holidays: String,
    /// `RANGES:DATE[,DATE...][;...]`; may be empty.
    pub corrections: String,
}

/// Why a [`SessionSpec`] cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// No such time zone.
    #[error("unknown time zone `{0}`")]
    TimeZone(String),
    /// The session does not follow the grammar.
    #[error("unreadable session `{0}`")]
    Session(String),
    /// A holiday is no date.
    #[error("unreadable holiday `{0}`")]
    Holiday(String),
    /// A correction does not follow the grammar.
    #[error("unreadable session correction `{0}`")]
    Correction(String),
}

/// A part of a trading day, in minutes from midnight of that day in exchange time; negative on
/// the evening before. `start < end`, at most 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Hours {
    pub(super) start: i32,
    pub(super) end: i32,
}

impl Hours {
    pub(super) const WHOLE_DAY: Self = Self { start: 0, end: DAY };

    fn parse(text: &str) -> Option<Self> {
        let (start, end) = text.trim().split_once('-')?;
        let (start, end) = (clock_minutes(start)?, clock_minutes(end)?);
        Some(match (start, end) {
            (0, 0) => Self::WHOLE_DAY,
            _ if start < end => Self { start, end },
            _ => Self { start: start - DAY, end },
        })
    }
}

/// The ranges of each weekday, Monday first.
pub(super) type Week = [Vec<Hours>; 7];

pub(super) fn parse_week(session: &str) -> Result<Week, SessionError> {
    let error = || SessionError::Session(session.to_owned());
    let mut named: Week = Week::default();
    let mut plain: Vec<Hours> = Vec::new();
    for group in session.split('|') {
        let mut days = None;
        // From the right: a day list holds for the ranges before it in its group, too.
        for item in group.rsplit(',') {
            let (range, list) = match item.split_once(':') {
                Some((range, list)) => (range, Some(weekdays(list).ok_or_else(error)?)),
                None => (item, None),
            };
            days = list.or(days);
            let hours = Hours::parse(range).ok_or_else(error)?;
            match &days {
                Some(days) => days.iter().for_each(|day| named_day(&mut named, *day).push(hours)),
                None => plain.push(hours),
            }
        }
    }
    for day in Weekday::Monday.cycle_forward().take(5) {
        let ranges = named_day(&mut named, day);
        if ranges.is_empty() {
            ranges.clone_from(&plain);
        }
    }
    for ranges in &mut named {
        ranges.sort_unstable();
    }
    let overlapping = |ranges: &Vec<Hours>| !ranges.is_sorted_by(|a, b| a.end <= b.start);
    if named.iter().all(Vec::is_empty) || named.iter().any(overlapping) {
        return Err(error());
    }
    Ok(named)
}

pub(super) fn parse_holidays(holidays: &str) -> Result<BTreeSet<Date>, SessionError> {
    let items = holidays.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| date(item).ok_or_else(|| SessionError::Holiday(item.to_owned()))).collect()
}

pub(super) fn parse_corrections(
    corrections: &str,
) -> Result<BTreeMap<Date, Vec<Hours>>, SessionError> {
    let mut days = BTreeMap::new();
    for item in corrections.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        let error = || SessionError::Correction(item.to_owned());
        let (ranges, dates) = item.split_once(':').ok_or_else(error)?;
        let mut hours = match ranges.trim() {
            "dayoff" => Vec::new(),
            ranges => {
                ranges.split(',').map(Hours::parse).collect::<Option<Vec<_>>>().ok_or_else(error)?
            }
        };
        hours.sort_unstable();
        for text in dates.split(',') {
            days.insert(date(text.trim()).ok_or_else(error)?, hours.clone());
        }
    }
    Ok(days)
}

fn named_day(week: &mut Week, day: Weekday) -> &mut Vec<Hours> {
    let [monday, tuesday, wednesday, thursday, friday, saturday, sunday] = week;
    match day {
        Weekday::Monday => monday,
        Weekday::Tuesday => tuesday,
        Weekday::Wednesday => wednesday,
        Weekday::Thursday => thursday,
        Weekday::Friday => friday,
        Weekday::Saturday => saturday,
        Weekday::Sunday => sunday,
    }
}

fn weekdays(list: &str) -> Option<Vec<Weekday>> {
    let day = |c: char| Weekday::from_sunday_one_offset(c.to_digit(10)?.try_into().ok()?).ok();
    let mut days = list.trim().chars().map(day).collect::<Option<Vec<_>>>()?;
    days.sort_by_key(|day| day.to_monday_zero_offset());
    days.dedup();
    (!days.is_empty()).then_some(days)
}

fn clock_minutes(text: &str) -> Option<i32> {
    if text.len() != 4 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i32 = text.parse().ok()?;
    let (hours, minutes) = (number / 100, number % 100);
    ((hours < 24 && minutes < 60) || number == 2_400).then_some(hours * 60 + minutes)
}

fn date(text: &str) -> Option<Date> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i32 = text.parse().ok()?;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(session: &str) -> Vec<Vec<(i32, i32)>> {
        let week = parse_week(session).unwrap();
        week.iter().map(|day| day.iter().map(|hours| (hours.start, hours.end)).collect()).collect()
    }

    #[test]
    fn without_a_day_list_it_is_monday_to_friday() {
        let day = vec![(570, 960)];
        assert_eq!(ranges("0930-1600")[..5], vec![day; 5]);
        assert_eq!(ranges("0930-1600")[5..], [vec![], vec![]]);
    }

    #[test]
    fn a_start_not_before_its_end_is_the_evening_before() {
        assert_eq!(ranges("1700-1600")[0], [(-420, 960)]);
        assert_eq!(ranges("1700-1700")[0], [(-420, 1_020)]);
        assert_eq!(ranges("0000-0000")[0], [(0, 1_440)]);
        assert_eq!(ranges("0000-2400")[0], [(0, 1_440)]);
    }

    #[test]
    fn day_lists_and_several_ranges() {
        assert_eq!(ranges("0900-1130,1230-1500:23")[0], [(540, 690), (750, 900)]);
        assert_eq!(ranges("0900-1130,1230-1500:23")[2], []);
        let half_friday = ranges("0930-1600|0930-1300:6");
        assert_eq!(
            (&half_friday[3][..], &half_friday[4][..]),
            (&[(570, 960)][..], &[(570, 780)][..])
        );
        assert_eq!(ranges("1800-1700:1234567")[6], [(-360, 1_020)]);
    }

    #[test]
    fn corrections_name_ranges_and_dates() {
        let days = parse_corrections("0930-1300:20121123,20121224;dayoff:20130101").unwrap();
        let hours = |text: &str| days[&text.parse::<Date>().unwrap()].clone();
        assert_eq!(hours("2012-12-24"), [Hours { start: 570, end: 780 }]);
        assert_eq!(hours("2013-01-01"), []);
        assert!(parse_corrections("").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for bad in [
            "",
            "0930",
            "0930-2500",
            "0930-1661",
            "0930-1600:8",
            "0930-1600:",
            "0930-1600,1500-1700",
            "é930-1600",
        ] {
            assert_eq!(parse_week(bad), Err(SessionError::Session(bad.to_owned())), "{bad}");
        }
        assert!(parse_holidays("20130101, 20130231").is_err());
        assert!(parse_holidays("2013é01").is_err());
        assert!(parse_corrections("0930-1300").is_err());
    }
}
