//! Bars as they are written: `{"i":0,"v":[time,open,high,low,close,volume]}`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};

use super::timescale::Timescale;
use crate::simulator::wire::{Answer, node};
use crate::simulator::world::WorldBar;

/// What stands in the place of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VolumeForm {
    /// The volume, where the bar has one.
    Plain,
    /// Nothing: five elements.
    Left,
    /// `null`.
    Null,
}

/// A bar with its place on the time axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) index: usize,
    pub(super) bar: WorldBar,
    pub(super) volume: VolumeForm,
}

#[derive(Serialize)]
struct RowForm<'a> {
    i: usize,
    v: Values<'a>,
}

struct Values<'a>(&'a Row);

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RowForm { i: self.index, v: Values(self) }.serialize(serializer)
    }
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bar = &self.0.bar;
        let mut list = serializer.serialize_seq(None)?;
        for number in [seconds(bar.open_time), bar.open, bar.high, bar.low, bar.close] {
            list.serialize_element(&number)?;
        }
        match (self.0.volume, bar.volume) {
            (VolumeForm::Null, _) => list.serialize_element(&())?,
            (VolumeForm::Plain, Some(volume)) => list.serialize_element(&volume)?,
            (VolumeForm::Plain, None) | (VolumeForm::Left, _) => {}
        }
        list.end()
    }
}

/// A time as bars carry it.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds stay below 2^53 until the year 287396"
)]
pub(super) fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1_000.0
}

#[derive(Serialize)]
struct Node<'a> {
    node: &'static str,
    s: &'a [Row],
    ns: Notes,
    t: &'a str,
    lbs: Option<LastBar>,
}

#[derive(Serialize)]
struct Notes {
    d: &'static str,
    indexes: [u8; 0],
}

#[derive(Serialize)]
struct LastBar {
    bar_close_time: i64,
}

/// `timescale_update` with `rows` of the series `series`. `closes` is when its newest bar is
/// scheduled to.
pub(super) fn timescale_update(
    (session, series, turnaround): (&str, &str, &str),
    rows: &[Row],
    timescale: &Timescale,
    closes: Option<Timestamp>,
    now: Timestamp,
) -> String {
    let lbs = closes.map(|closes| LastBar { bar_close_time: closes.as_second() });
    let notes = Notes { d: "", indexes: [] };
    let body = Node { node: node(), s: rows, ns: notes, t: turnaround, lbs };
    let by_series = BTreeMap::from([(series, body)]);
    Answer::at("timescale_update", (session, by_series, timescale), now).text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_decimal_point_and_a_missing_volume_leaves_five() {
        let open_time = Timestamp::from_second(1_640_183_400).unwrap();
        let bar = WorldBar {
            open_time,
            open: 4650.36,
            high: 4697.0,
            low: 4645.5,
            close: 4696.57,
            volume: Some(1_798_000_000.0),
        };
        let text = |volume| serde_json::to_string(&Row { index: 7, bar, volume }).unwrap();
        let prices = r#"{"i":7,"v":[1640183400.0,4650.36,4697.0,4645.5,4696.57"#;
        assert_eq!(text(VolumeForm::Plain), format!("{prices},1798000000.0]}}"));
        assert_eq!(text(VolumeForm::Left), format!("{prices}]}}"));
        assert_eq!(text(VolumeForm::Null), format!("{prices},null]}}"));
    }
}
