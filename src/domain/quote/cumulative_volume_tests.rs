//! Every rule of cumulative volume, as a table.

use jiff::Timestamp;

use super::VolumeStep::{Baseline, Repeated, Restated, Traded};
use super::{CumulativeVolume, LastVolume};
use crate::domain::ohlcv::BarRange;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Days of 1,000 s, of which the session takes the first 900.
fn day(number: i64) -> BarRange {
    BarRange::new(at(number * 1_000), at(number * 1_000 + 900)).unwrap()
}

fn known(cumulative: f64, time: Option<i64>) -> CumulativeVolume {
    CumulativeVolume::restored(Some(LastVolume { cumulative, time: time.map(at) }))
}

#[test]
fn each_rule_of_the_days_volume() {
    let traded = |before, after| Traded { before, after };
    let rows = [
        ("a later day starts at 0", known(90.0, Some(100)), 5.0, 1_001, traded(0.0, 5.0), 5.0),
        ("also with more than before", known(9.0, Some(100)), 50.0, 1_001, traded(0.0, 50.0), 50.0),
        (
            "after a night out of session",
            known(9.0, Some(950)),
            50.0,
            1_001,
            traded(0.0, 50.0),
            50.0,
        ),
        ("more on the same day", known(90.0, Some(100)), 95.5, 101, traded(90.0, 95.5), 95.5),
        ("the same on the same day", known(90.0, Some(100)), 90.0, 101, traded(90.0, 90.0), 90.0),
        ("more, told late", known(90.0, Some(100)), 92.0, 99, traded(90.0, 92.0), 92.0),
        ("less, told late", known(90.0, Some(100)), 80.0, 99, Repeated, 90.0),
        ("less at the same time", known(90.0, Some(100)), 80.0, 100, Repeated, 90.0),
        ("less at a later time", known(90.0, Some(100)), 80.0, 101, Restated, 80.0),
        ("of the day before", known(5.0, Some(1_001)), 90.0, 100, Repeated, 5.0),
        ("first of a day", known(0.0, None), 7.0, 3, traded(0.0, 7.0), 7.0),
        ("nothing to compare with", CumulativeVolume::default(), 7.0, 3, Baseline, 7.0),
    ];
    for (rule, mut volume, cumulative, second, step, last) in rows {
        let day = day(second / 1_000);
        assert_eq!(volume.step(cumulative, at(second), day), step, "{rule}");
        assert_eq!(volume.last().map(|known| known.cumulative), Some(last), "{rule}");
    }
}

#[test]
fn a_late_volume_does_not_set_the_time_back() {
    let mut volume = known(90.0, Some(100));
    volume.step(92.0, at(99), day(0));
    assert_eq!(volume.step(91.0, at(100), day(0)), Repeated);
}

#[test]
fn a_snapshot_is_the_new_baseline() {
    let mut volume = known(90.0, Some(100));
    volume.rebase(Some(120.0), Some(at(200)), false);
    assert_eq!(volume.step(121.0, at(201), day(0)), Traded { before: 120.0, after: 121.0 });
    volume.rebase(None, None, true);
    assert_eq!(volume.step(4.0, at(1_001), day(1)), Traded { before: 0.0, after: 4.0 });
    volume.rebase(None, Some(at(1_100)), false);
    assert_eq!(volume.step(9.0, at(1_200), day(1)), Baseline);
}
