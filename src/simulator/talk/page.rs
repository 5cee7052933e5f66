//! Which stretch of a series a request asks for. Pure.

use std::ops::Range;

use jiff::Timestamp;
use serde_json::Value;

use crate::simulator::world::WorldBar;

/// Bars in one answer; more come with `request_more_data`.
pub(super) const MAX_PAGE: usize = 100_000;

/// Bars on either side of a range of time that come although nobody asked: the range is a hint.
const MARGIN: usize = 1;

/// How many bars, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BarsAsked {
    /// The newest.
    Newest(usize),
    /// Up to a time.
    Until(Timestamp, usize),
    /// From a time on.
    From(Timestamp, usize),
}

impl BarsAsked {
    /// Reads `300` or `["bar_count", seconds, 300]`, where a negative count goes forward.
    pub(super) fn read(value: &Value) -> Option<Self> {
        if let Some(count) = count(value) {
            return Some(Self::Newest(count));
        }
        let parts = value.as_array()?;
        if parts.first()?.as_str()? != "bar_count" {
            return None;
        }
        let time = Timestamp::from_second(whole(parts.get(1)?)?).ok()?;
        let amount = whole(parts.get(2)?)?;
        let bars = usize::try_from(amount.unsigned_abs()).ok()?.min(MAX_PAGE);
        match amount {
            0 => None,
            1.. => Some(Self::Until(time, bars)),
            _ => Some(Self::From(time, bars)),
        }
    }

    /// Where that is in `bars`; nothing before `floor` is reachable.
    pub(super) fn window(self, bars: &[WorldBar], floor: usize) -> Range<usize> {
        match self {
            Self::Newest(count) => bars.len().saturating_sub(count).max(floor)..bars.len(),
            Self::Until(time, count) => {
                let end = bars.partition_point(|bar| bar.open_time <= time).max(floor);
                end.saturating_sub(count).max(floor)..end
            }
            Self::From(time, count) => {
                let start = bars.partition_point(|bar| bar.open_time < time).max(floor);
                start..start.saturating_add(count).min(bars.len())
            }
        }
    }
}

/// A number of bars: 1 or more.
pub(super) fn count(value: &Value) -> Option<usize> {
    let count = usize::try_from(whole(value)?).ok()?;
    (count > 0).then_some(count.min(MAX_PAGE))
}

#[expect(clippy::cast_possible_truncation, reason = "only whole numbers within range are cast")]
fn whole(value: &Value) -> Option<i64> {
    let fits = |number: &f64| number.fract() == 0.0 && number.abs() < 9e15;
    value.as_i64().or_else(|| value.as_f64().filter(fits).map(|number| number as i64))
}

/// The bars of a frame `r,FROM:TO` (seconds); none for the frames that only name a zoom.
pub(super) fn framed(frame: &str, bars: &[WorldBar], floor: usize) -> Option<Range<usize>> {
    let (from, to) = frame.strip_prefix("r,")?.split_once(':')?;
    let time = |text: &str| Timestamp::from_second(text.trim().parse().ok()?).ok();
    let (from, to) = (time(from)?, time(to)?);
    let start = bars.partition_point(|bar| bar.open_time < from);
    let end = bars.partition_point(|bar| bar.open_time <= to).max(start);
    if end <= floor {
        return Some(floor..floor);
    }
    let end = end.saturating_add(MARGIN).min(bars.len());
    let start = start.saturating_sub(MARGIN).max(floor);
    Some(start.max(end.saturating_sub(MAX_PAGE))..end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bars(count: i64) -> Vec<WorldBar> {
        let bar = |second| WorldBar {
            open_time: Timestamp::from_second(second * 60).unwrap(),
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: None,
        };
        (0..count).map(bar).collect()
    }

    #[test]
    fn bars_are_asked_for_in_three_ways() {
        let window = |value: Value| BarsAsked::read(&value).unwrap().window(&bars(10), 2);
        assert_eq!(window(json!(3)), 7..10);
        assert_eq!(window(json!(3.0)), 7..10);
        assert_eq!(window(json!(99)), 2..10);
        assert_eq!(window(json!(["bar_count", 300, 2])), 4..6);
        assert_eq!(window(json!(["bar_count", 300, -2])), 5..7);
        assert_eq!(window(json!(["bar_count", 0, 5])), 2..2);
        for wrong in [json!(0), json!(-1), json!("3"), json!(["bar_count", 1]), json!(1.5)] {
            assert_eq!(BarsAsked::read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_frame_is_a_hint_with_a_bar_to_spare() {
        assert_eq!(framed("r,180:300", &bars(10), 0), Some(2..7));
        assert_eq!(framed("r,180:300", &bars(10), 8), Some(8..8));
        assert_eq!(framed("12M", &bars(10), 0), None);
        assert_eq!(framed("", &bars(10), 0), None);
    }
}
