//! When something is to happen: a cron expression of six fields, seconds first, in UTC.
//!
//! It is arithmetic on civil UTC, where no hour is missing and none comes twice: a change to or
//! from daylight saving time changes nothing. It knows no clock and runs nothing.

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use thiserror::Error;

/// Fields of an expression: second, minute, hour, day of month, month, day of week.
const FIELDS: usize = 6;

/// Instants at which something is to happen: at least one a few years.
///
/// Where both the day of the month and the day of the week are restricted, either will do, as in
/// every cron.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// It does not have six fields.
    #[error("it has {0} fields and not 6: second, minute, hour, day of month, month, day of week")]
    Fields(usize),
    /// A field cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It names days that there are not.
    #[error("it never comes")]
    Never,
}

/// The first instant of `schedule` after `after`; whole seconds. Nothing at the end of time.
pub fn next_run(schedule: &Schedule, after: Timestamp) -> Option<Timestamp> {
    // From the whole second: the library searches from the second that follows.
    let after = TimeZone::UTC.to_datetime(whole_second(after)?);
    let next = schedule.cron.find_next_occurrence(&after, false).ok()?;
    TimeZone::UTC.to_timestamp(next).ok()
}

/// The newest instant of `schedule` at or before `at`: where several were missed, this one stands
/// for all of them.
pub fn newest_run(schedule: &Schedule, at: Timestamp) -> Option<Timestamp> {
    let at = TimeZone::UTC.to_datetime(whole_second(at)?);
    let newest = schedule.cron.find_previous_occurrence(&at, true).ok()?;
    TimeZone::UTC.to_timestamp(newest).ok()
}

fn whole_second(time: Timestamp) -> Option<Timestamp> {
    let second = time.as_nanosecond().div_euclid(1_000_000_000);
    Timestamp::from_second(i64::try_from(second).ok()?).ok()
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        // The library would take five fields, and names such as `@daily`, for what they may mean.
        if fields.len() != FIELDS {
            return Err(ScheduleError::Fields(fields.len()));
        }
        let text = fields.join(" ");
        let parser =
            CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let unreadable = |error: croner::errors::CronError| {
            ScheduleError::Unreadable(error.to_string().replace("CronPattern", "the schedule"))
        };
        let cron = parser.parse(&text).map_err(unreadable)?;
        let schedule = Self { text, cron };
        let comes = next_run(&schedule, Timestamp::UNIX_EPOCH).is_some();
        if comes { Ok(schedule) } else { Err(ScheduleError::Never) }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::config::Settings;

    /// Made by `tests/fixtures/job_instants.py`, which shares nothing with this code: every
    /// instant of every default schedule from 2026-10-19 to 2026-11-02, in which Europe and
    /// America leave daylight saving time.
    const INSTANTS: &str = include_str!("../../tests/fixtures/job_instants.csv");

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    fn instants(schedule: &Schedule, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let first = from - jiff::SignedDuration::from_nanos(1);
        let runs = std::iter::successors(next_run(schedule, first), |at| next_run(schedule, *at));
        runs.take_while(|at| *at < until).collect()
    }

    #[test]
    fn two_weeks_over_a_clock_change_have_exactly_the_committed_instants() {
        let (from, until) = (time("2026-10-19T00:00:00Z"), time("2026-11-02T00:00:00Z"));
        let jobs = Settings::from_lookup(|_| None).unwrap().jobs;
        for job in jobs.each() {
            let job_id = job.job_id;
            let listed = INSTANTS.lines().filter_map(|line| line.split_once(','));
            let expected: Vec<Timestamp> =
                listed.filter(|line| line.0 == job_id).map(|line| time(line.1)).collect();
            assert!(!expected.is_empty(), "{job_id} is not in the list");
            assert_eq!(instants(&job.schedule, from, until), expected, "{job_id}");
        }
    }

    #[test]
    fn the_newest_instant_is_the_one_from_which_the_next_lies_ahead() {
        let daily = schedule("0 0 9-17 * * Mon-Fri");
        let from = time("2026-10-23T08:59:59.5Z");
        for quarter in 0..4 * 24 * 4 {
            let at = from + jiff::SignedDuration::from_mins(15) * quarter;
            let newest = newest_run(&daily, at).unwrap();
            assert!(newest <= at, "{at}");
            assert!(next_run(&daily, newest).unwrap() > at, "{at}");
        }
    }

    #[test]
    fn an_instant_is_never_its_own_next_and_fractions_do_not_move_it() {
        let hourly = schedule("0 0 * * * *");
        let cases = [
            ("2026-01-01T00:59:59.999Z", "2026-01-01T01:00:00Z"),
            ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"),
            ("2026-01-01T01:00:00.001Z", "2026-01-01T02:00:00Z"),
            ("1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z"),
        ];
        for (after, next) in cases {
            assert_eq!(next_run(&hourly, time(after)), Some(time(next)), "{after}");
        }
        assert_eq!(newest_run(&hourly, time(cases[1].0)), Some(time(cases[1].0)));
        assert_eq!(newest_run(&hourly, time(cases[2].0)), Some(time(cases[1].0)));
    }

    #[test]
    fn days_are_those_of_a_week_or_of_a_month_or_either() {
        let sundays = schedule("0 0 0 * * 0");
        assert_eq!(
            schedule("0 0 0 * * 7").cron.pattern.days_of_week,
            sundays.cron.pattern.days_of_week
        );
        assert_eq!(
            next_run(&sundays, time("2026-11-21T00:00:00Z")),
            Some(time("2026-11-22T00:00:00Z"))
        );
        let either = schedule("0 0 0 1 * Mon");
        let next = instants(&either, time("2026-11-29T00:00:00Z"), time("2026-12-08T00:00:00Z"));
        let days = ["2026-11-30", "2026-12-01", "2026-12-07"];
        assert_eq!(next, days.map(|day| time(&format!("{day}T00:00:00Z"))));
        let leap = schedule("0 0 0 29 2 *");
        assert_eq!(
            next_run(&leap, time("2026-01-01T00:00:00Z")),
            Some(time("2028-02-29T00:00:00Z"))
        );
    }

    #[test]
    fn what_is_no_schedule_or_never_comes_is_refused() {
        for (text, fields) in [("", 0), ("@daily", 1), ("0 * * * *", 5), ("0 0 * * * * 2030", 7)] {
            assert_eq!(text.parse::<Schedule>(), Err(ScheduleError::Fields(fields)), "{text}");
        }
        for text in
            ["0 0 25 * * *", "61 * * * * *", "0 0 0 * * Someday", "a b c d e f", "0 0 0 * 13 *"]
        {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(matches!(error, ScheduleError::Unreadable(_)), "{text}: {error}");
        }
        assert_eq!("0 0 0 30 2 *".parse::<Schedule>(), Err(ScheduleError::Never));
        assert_eq!(schedule(" 0  0 */6 * * * ").to_string(), "0 0 */6 * * *");
    }
}
