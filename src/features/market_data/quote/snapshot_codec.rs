//! What is kept of a symbol's bars over a crash, as bytes.
//!
//! JSON with a version in front: read by the next start, and by whoever has to look.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::ohlcv::services::{BarVolume, MinuteBar, ParentBar, Rolled, TrackSnapshot};
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::quote::LastVolume;
use crate::domain::shared::{Interval, Symbol};

/// The form that this version writes; another one is not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    symbol: String,
    event_time: Option<i64>,
    last_tick: Option<i64>,
    volume: Option<(f64, Option<i64>)>,
    cursor: Option<i64>,
    since: Option<i64>,
    floor: i64,
    joined: Option<Range>,
    doubt: Option<Range>,
    forgotten: i64,
    days: Vec<(i64, Values)>,
    minutes: Vec<Minute>,
    parents: Vec<(String, Parent)>,
    refetches: Vec<Range>,
    repairs: Vec<(String, Range)>,
    #[serde(default)]
    cut: Option<i64>,
    #[serde(default)]
    owed: Vec<(String, Range)>,
    #[serde(default)]
    logged_from: Option<i64>,
    #[serde(default)]
    saved_at: i64,
}

/// All that is kept of a symbol.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    /// Its bars.
    pub(super) snapshot: TrackSnapshot,
    /// Bars that are to be fetched again or rolled up again, and are not yet.
    pub(super) owed: Vec<(Interval, BarRange)>,
    /// From where on its closed bars are in the bar log.
    pub(super) logged_from: Option<Timestamp>,
    /// When this was kept.
    pub(super) saved_at: Timestamp,
}

/// Microseconds since 1970.
pub(super) type Range = (i64, i64);
/// Open, high, low, close, volume.
pub(super) type Values = (f64, f64, f64, f64, Option<f64>);
/// Open time, values, revision, source, ticks.
pub(super) type Told = (i64, Values, u32, String, Option<u32>);

#[derive(Serialize, Deserialize)]
struct Minute {
    range: Range,
    prices: (f64, f64, f64, f64),
    traded: Range,
    sum: Option<f64>,
    stretch: Option<(f64, f64)>,
    ticks: u32,
    fixed: Option<Values>,
    told: Option<Told>,
    doubtful: bool,
}

#[derive(Serialize, Deserialize)]
struct Parent {
    range: Range,
    until: i64,
    head: Option<(Values, u32, bool)>,
    tail: Option<(Values, u32, bool)>,
    rerolling: Option<i64>,
    fixed: Option<Values>,
    has_days: bool,
    repaired: bool,
    changed: bool,
    told: Option<Told>,
}

/// The bytes of `kept`.
pub(super) fn encode(kept: &Kept) -> Bytes {
    let snapshot = &kept.snapshot;
    let form = Form {
        version: VERSION,
        symbol: snapshot.symbol.to_string(),
        event_time: snapshot.event_time.map(time),
        last_tick: snapshot.last_tick.map(time),
        volume: snapshot.volume.map(|last| (last.cumulative, last.time.map(time))),
        cursor: snapshot.cursor.map(time),
        since: snapshot.since.map(time),
        floor: time(snapshot.floor),
        joined: snapshot.joined.map(range),
        doubt: snapshot.doubt.map(|(from, to)| (time(from), time(to))),
        forgotten: time(snapshot.forgotten),
        days: snapshot.days.iter().map(|(open, day)| (time(*open), values(day))).collect(),
        minutes: snapshot.minutes.iter().map(minute).collect(),
        parents: snapshot
            .parents
            .iter()
            .map(|(interval, bar)| (interval.to_string(), parent(bar)))
            .collect(),
        refetches: snapshot.refetches.iter().copied().map(range).collect(),
        repairs: bars(&kept.owed),
        cut: snapshot.cut.map(time),
        owed: bars(&snapshot.owed),
        logged_from: kept.logged_from.map(time),
        saved_at: time(kept.saved_at),
    };
    // Numbers, texts and lists always have a form in JSON.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// What is kept in `bytes`; none where another version wrote them, or they are damaged.
pub(super) fn decode(bytes: &[u8]) -> Option<Kept> {
    let form: Form = serde_json::from_slice(bytes).ok()?;
    if form.version != VERSION {
        return None;
    }
    let last =
        |(cumulative, at): (f64, Option<i64>)| LastVolume { cumulative, time: at.map(read_time) };
    let volume = form.volume.map(last);
    let days = form.days.into_iter().map(|(open, day)| Some((read_time(open), read_values(day)?)));
    let parents = form
        .parents
        .into_iter()
        .map(|(interval, bar)| Some((interval.parse::<Interval>().ok()?, read_parent(bar)?)));
    let snapshot = TrackSnapshot {
        symbol: Symbol::parse(&form.symbol).ok()?,
        event_time: form.event_time.map(read_time),
        last_tick: form.last_tick.map(read_time),
        volume,
        cursor: form.cursor.map(read_time),
        since: form.since.map(read_time),
        floor: read_time(form.floor),
        joined: form.joined.and_then(read_range),
        doubt: form.doubt.map(|(from, to)| (read_time(from), read_time(to))),
        cut: form.cut.map(read_time),
        owed: read_bars(form.owed)?,
        forgotten: read_time(form.forgotten),
        days: days.collect::<Option<_>>()?,
        minutes: form.minutes.into_iter().map(read_minute).collect::<Option<_>>()?,
        parents: parents.collect::<Option<_>>()?,
        refetches: form.refetches.into_iter().map(read_range).collect::<Option<_>>()?,
    };
    Some(Kept {
        snapshot,
        owed: read_bars(form.repairs)?,
        logged_from: form.logged_from.map(read_time),
        saved_at: read_time(form.saved_at),
    })
}

fn minute(bar: &MinuteBar) -> Minute {
    Minute {
        range: range(bar.range),
        prices: (bar.open, bar.high, bar.low, bar.close),
        traded: (time(bar.first_time), time(bar.last_time)),
        sum: bar.volume.sum,
        stretch: bar.volume.stretch,
        ticks: bar.ticks,
        fixed: bar.fixed.as_ref().map(values),
        told: bar.told.as_ref().map(told),
        doubtful: bar.doubtful,
    }
}

fn read_minute(bar: Minute) -> Option<MinuteBar> {
    let (open, high, low, close) = bar.prices;
    Some(MinuteBar {
        range: read_range(bar.range)?,
        open,
        high,
        low,
        close,
        first_time: read_time(bar.traded.0),
        last_time: read_time(bar.traded.1),
        volume: BarVolume { sum: bar.sum, stretch: bar.stretch },
        ticks: bar.ticks,
        fixed: bar.fixed.and_then(read_values),
        told: bar.told.and_then(read_told),
        doubtful: bar.doubtful,
    })
}

fn parent(bar: &ParentBar) -> Parent {
    let rolled = |rolled: &Rolled| (values(&rolled.values), rolled.ticks, rolled.repaired);
    Parent {
        range: range(bar.range),
        until: time(bar.until),
        head: bar.head.as_ref().map(rolled),
        tail: bar.tail.as_ref().map(rolled),
        rerolling: bar.rerolling.map(time),
        fixed: bar.fixed.as_ref().map(values),
        has_days: bar.has_days,
        repaired: bar.repaired,
        changed: bar.changed,
        told: bar.told.as_ref().map(told),
    }
}

fn read_parent(bar: Parent) -> Option<ParentBar> {
    let rolled = |(values, ticks, repaired): (Values, u32, bool)| {
        Some(Rolled { values: read_values(values)?, ticks, repaired })
    };
    Some(ParentBar {
        range: read_range(bar.range)?,
        until: read_time(bar.until),
        head: bar.head.and_then(rolled),
        tail: bar.tail.and_then(rolled),
        rerolling: bar.rerolling.map(read_time),
        fixed: bar.fixed.and_then(read_values),
        has_days: bar.has_days,
        repaired: bar.repaired,
        changed: bar.changed,
        told: bar.told.and_then(read_told),
    })
}

pub(super) fn told(bar: &StoredBar) -> Told {
    let source = bar.source.to_string();
    (time(bar.open_time), values(&bar.values), bar.revision(), source, bar.tick_count)
}

pub(super) fn read_told((open, values, revision, source, ticks): Told) -> Option<StoredBar> {
    let source: BarSource = source.parse().ok()?;
    let mut bar = StoredBar::with_revision(read_time(open), read_values(values)?, revision, source);
    bar.tick_count = ticks;
    Some(bar)
}

fn bars(bars: &[(Interval, BarRange)]) -> Vec<(String, Range)> {
    bars.iter().map(|(each, of)| (each.to_string(), range(*of))).collect()
}

fn read_bars(bars: Vec<(String, Range)>) -> Option<Vec<(Interval, BarRange)>> {
    let bars = bars.into_iter();
    bars.map(|(each, of)| Some((each.parse().ok()?, read_range(of)?))).collect()
}

fn values(values: &Ohlcv) -> Values {
    (values.open(), values.high(), values.low(), values.close(), values.volume())
}

fn read_values((open, high, low, close, volume): Values) -> Option<Ohlcv> {
    Ohlcv::new(open, high, low, close, volume).ok()
}

pub(super) fn range(range: BarRange) -> Range {
    (time(range.open()), time(range.close()))
}

pub(super) fn read_range((open, close): Range) -> Option<BarRange> {
    BarRange::new(read_time(open), read_time(close))
}

pub(super) fn time(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(super) fn read_time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MIN)
}
