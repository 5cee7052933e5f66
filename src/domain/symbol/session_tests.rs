//! Bars on real calendars: both clock changes, holidays, early closes, overnight, around the clock.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::{SessionSpec, TradingSession};
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::Interval::{self, D1, H1, H2, H4, M1, M15, M45, Mo1, W1};

const NEW_YORK: (&str, &str, &str, &str) = (
    "America/New_York",
    "0930-1600",
    "20121029,20121030,20121122,20121225,20130101,20130121,20130218,20130329",
    "0930-1300:20121123,20121224",
);
const ES: (&str, &str, &str, &str) = ("America/Chicago", "1700-1600", "", "1700-1030:20130902");
const CRYPTO: (&str, &str, &str, &str) = ("Etc/UTC", "24x7", "", "");
const MIDNIGHT: (&str, &str, &str, &str) = ("America/New_York", "0000-0000:1234567", "", "");
const TOKYO: (&str, &str, &str, &str) = ("Asia/Tokyo", "0900-1130,1230-1530", "", "");

fn session((timezone, session, holidays, corrections): (&str, &str, &str, &str)) -> TradingSession {
    TradingSession::parse(&SessionSpec {
        timezone: timezone.to_owned(),
        session: session.to_owned(),
        holidays: holidays.to_owned(),
        corrections: corrections.to_owned(),
    })
    .unwrap()
}

fn at(text: &str) -> Timestamp {
    let text = if text.len() == 16 { format!("{text}:00Z") } else { format!("{text}Z") };
    text.parse().unwrap()
}

type Row<'a> = (Interval, &'a str, &'a str, &'a str);

/// Each time lies in the bar named beside it, by the session itself and by a clock.
fn check(spec: (&str, &str, &str, &str), rows: &[Row<'_>]) {
    let session = Arc::new(session(spec));
    for (interval, time, open, close) in rows {
        let (time, open, close) = (at(time), at(open), at(close));
        let range = session.bar_range(*interval, time).unwrap();
        assert_eq!((range.open(), range.close()), (open, close), "{interval} at {time}");
        assert_eq!(BarClock::new(Arc::clone(&session), *interval).bar_at(time), Some(range));
        assert_eq!(session.bounds_of(*interval, open), range, "{interval} from {open}");
    }
}

#[test]
fn new_york_across_clock_changes_holidays_and_early_closes() {
    check(
        NEW_YORK,
        &[
            // The Friday before and the Monday after 2013-03-10.
            (H1, "2013-03-08T14:45", "2013-03-08T14:30", "2013-03-08T15:30"),
            (H1, "2013-03-11T13:30", "2013-03-11T13:30", "2013-03-11T14:30"),
            (H1, "2013-03-11T19:59:59", "2013-03-11T19:30", "2013-03-11T20:00"),
            (M45, "2013-03-11T19:50", "2013-03-11T19:30", "2013-03-11T20:00"),
            (D1, "2013-03-08T20:00", "2013-03-08T14:30", "2013-03-08T21:00"),
            (D1, "2013-03-11T19:00", "2013-03-11T13:30", "2013-03-11T20:00"),
            (W1, "2013-03-05T15:00", "2013-03-04T14:30", "2013-03-08T21:00"),
            (W1, "2013-03-13T15:00", "2013-03-11T13:30", "2013-03-15T20:00"),
            // The month begins in winter time and ends, by Good Friday, on the 28th in summer time.
            (Mo1, "2013-03-20T15:00", "2013-03-01T14:30", "2013-03-28T20:00"),
            // 2012-11-04; two days before, the city was under water.
            (W1, "2012-11-01T15:00", "2012-10-31T13:30", "2012-11-02T20:00"),
            (Mo1, "2012-10-31T15:00", "2012-10-01T13:30", "2012-10-31T20:00"),
            (D1, "2012-11-02T15:00", "2012-11-02T13:30", "2012-11-02T20:00"),
            (D1, "2012-11-05T15:00", "2012-11-05T14:30", "2012-11-05T21:00"),
            (Mo1, "2012-11-15T15:00", "2012-11-01T13:30", "2012-11-30T21:00"),
            // Early closes, and Christmas between two sessions of a week.
            (D1, "2012-11-23T15:00", "2012-11-23T14:30", "2012-11-23T18:00"),
            (H1, "2012-11-23T17:45", "2012-11-23T17:30", "2012-11-23T18:00"),
            (H4, "2012-11-23T17:00", "2012-11-23T14:30", "2012-11-23T18:00"),
            (W1, "2012-12-26T15:00", "2012-12-24T14:30", "2012-12-28T21:00"),
            (W1, "2012-12-31T15:00", "2012-12-31T14:30", "2013-01-04T21:00"),
            (Mo1, "2013-01-15T15:00", "2013-01-02T14:30", "2013-01-31T21:00"),
        ],
    );
}

#[test]
fn overnight_futures_open_on_the_evening_before() {
    check(
        ES,
        &[
            (D1, "2013-09-01T22:00", "2013-09-01T22:00", "2013-09-02T15:30"),
            (H1, "2013-09-02T15:10", "2013-09-02T15:00", "2013-09-02T15:30"),
            (D1, "2013-09-02T22:00", "2013-09-02T22:00", "2013-09-03T21:00"),
            (H4, "2013-09-03T20:30", "2013-09-03T18:00", "2013-09-03T21:00"),
            (H2, "2013-09-03T20:30", "2013-09-03T20:00", "2013-09-03T21:00"),
            (W1, "2013-09-04T12:00", "2013-09-01T22:00", "2013-09-06T21:00"),
            (Mo1, "2013-09-04T12:00", "2013-09-01T22:00", "2013-09-30T21:00"),
            (Mo1, "2013-09-30T22:30", "2013-09-30T22:00", "2013-10-31T21:00"),
            // 2013-03-10 and 2013-11-03.
            (D1, "2013-03-08T12:00", "2013-03-07T23:00", "2013-03-08T22:00"),
            (D1, "2013-03-11T12:00", "2013-03-10T22:00", "2013-03-11T21:00"),
            (W1, "2013-03-11T12:00", "2013-03-10T22:00", "2013-03-15T21:00"),
            (D1, "2013-11-01T12:00", "2013-10-31T22:00", "2013-11-01T21:00"),
            (W1, "2013-11-05T12:00", "2013-11-03T23:00", "2013-11-08T22:00"),
            (H1, "2013-11-04T00:10", "2013-11-04T00:00", "2013-11-04T01:00"),
            (Mo1, "2013-11-05T12:00", "2013-10-31T22:00", "2013-11-29T22:00"),
        ],
    );
}

#[test]
fn around_the_clock_is_utc() {
    check(
        CRYPTO,
        &[
            (M1, "2018-03-11T02:30:59", "2018-03-11T02:30", "2018-03-11T02:31"),
            (H1, "2018-03-11T02:30", "2018-03-11T02:00", "2018-03-11T03:00"),
            (H4, "2018-11-04T07:00", "2018-11-04T04:00", "2018-11-04T08:00"),
            (D1, "2018-03-11T23:59", "2018-03-11T00:00", "2018-03-12T00:00"),
            (W1, "2018-03-11T12:00", "2018-03-05T00:00", "2018-03-12T00:00"),
            (W1, "2018-12-31T12:00", "2018-12-31T00:00", "2019-01-07T00:00"),
            (Mo1, "2020-02-29T12:00", "2020-02-01T00:00", "2020-03-01T00:00"),
        ],
    );
}

#[test]
fn a_day_with_a_clock_change_inside_is_23_or_25_hours_long() {
    check(
        MIDNIGHT,
        &[
            (D1, "2013-03-10T12:00", "2013-03-10T05:00", "2013-03-11T04:00"),
            (H4, "2013-03-11T03:30", "2013-03-11T01:00", "2013-03-11T04:00"),
            (D1, "2013-11-03T12:00", "2013-11-03T04:00", "2013-11-04T05:00"),
            (H4, "2013-11-04T04:30", "2013-11-04T04:00", "2013-11-04T05:00"),
        ],
    );
}

#[test]
fn the_grid_restarts_after_a_lunch_break() {
    check(
        TOKYO,
        &[
            (H1, "2024-01-10T02:15", "2024-01-10T02:00", "2024-01-10T02:30"),
            (H1, "2024-01-10T03:30", "2024-01-10T03:30", "2024-01-10T04:30"),
            (D1, "2024-01-10T03:30", "2024-01-10T00:00", "2024-01-10T06:30"),
        ],
    );
    assert_eq!(session(TOKYO).bar_range(H1, at("2024-01-10T02:45")), None);
}

#[test]
fn outside_of_the_session_there_is_no_bar() {
    let closed = [
        (NEW_YORK, "2013-03-11T13:29"),
        (NEW_YORK, "2013-03-11T20:00"),
        (NEW_YORK, "2013-03-09T15:00"),
        (NEW_YORK, "2012-10-29T15:00"),
        (NEW_YORK, "2012-11-23T18:00"),
        (ES, "2013-09-02T15:30"),
        (ES, "2013-09-07T12:00"),
    ];
    for (spec, time) in closed {
        for interval in Interval::ALL {
            let session = Arc::new(session(spec));
            assert_eq!(session.bar_range(interval, at(time)), None, "{interval} at {time}");
            assert_eq!(BarClock::new(session, interval).bar_at(at(time)), None);
        }
    }
}

#[test]
fn a_bar_off_the_grid_keeps_its_time_and_closes_with_the_grid() {
    let rows = [
        (CRYPTO, H1, "2018-02-09T09:28:14", "2018-02-09T10:00"),
        (CRYPTO, H1, "2018-02-11T03:28:14", "2018-02-11T04:00"),
        (CRYPTO, D1, "2018-02-09T09:28:14", "2018-02-10T00:00"),
        // A daily bar stamped at midnight ends with the session of that date.
        (NEW_YORK, D1, "2013-01-02T00:00", "2013-01-02T21:00"),
        (NEW_YORK, W1, "2013-01-07T00:00", "2013-01-11T21:00"),
        (NEW_YORK, H1, "2013-01-02T13:45", "2013-01-02T14:30"),
        (NEW_YORK, M15, "2013-01-02T21:00", "2013-01-02T21:15"),
    ];
    for (spec, interval, open, close) in rows {
        let range = session(spec).bounds_of(interval, at(open));
        assert_eq!((range.open(), range.close()), (at(open), at(close)), "{interval} from {open}");
    }
}

proptest! {
    /// Bars of a session neither overlap nor leave a hole inside of its hours, and shorter bars
    /// lie inside of longer ones.
    #[test]
    fn bars_tile_the_session(
        second in 1_325_376_000_i64..1_388_534_400,
        spec in prop::sample::select(vec![NEW_YORK, ES, CRYPTO, MIDNIGHT, TOKYO]),
    ) {
        let session = session(spec);
        let time = Timestamp::from_second(second).unwrap();
        for interval in Interval::ALL {
            let Some(range) = session.bar_range(interval, time) else { continue };
            prop_assert!(range.contains(time));
            prop_assert_eq!(session.bar_range(interval, range.open()), Some(range));
            let last = range.close() - 1.millisecond();
            prop_assert_eq!(session.bar_range(interval, last), Some(range));
            if let Some(next) = session.bar_range(interval, range.close()) {
                prop_assert_eq!(next.open(), range.close());
            }
        }
        if let (Some(day), Some(week)) = (session.bar_range(D1, time), session.bar_range(W1, time)) {
            prop_assert!(week.open() <= day.open() && day.close() <= week.close());
        }
    }
}
