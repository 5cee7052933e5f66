//! Events as they are told outside: their ids, and their JSON.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::domain::ohlcv::{BarRange, StoredBar};
use crate::domain::shared::{DomainEvent, EventPayload, EventType, Series, Symbol};

/// The id of an event. That of a bar's is made of the bar and its revision, that of a gap's of the
/// gap: whoever tells them, and however often. Others are new ones.
pub(super) fn id(payload: &EventPayload) -> Uuid {
    match payload {
        EventPayload::BarCompleted { series, bar } => bar_id(series, &bar.stored),
        EventPayload::BarRevised { series, new, .. } => bar_id(series, new),
        EventPayload::GapDetected { symbol, start, end } => gap_id(symbol, *start, *end),
        EventPayload::HistoricalDataSynced { .. }
        | EventPayload::SyncFailed { .. }
        | EventPayload::FeedConnected
        | EventPayload::FeedLost { .. } => Uuid::now_v7(),
    }
}

/// The id of the event that a bar has this revision.
pub(super) fn bar_id(series: &Series, bar: &StoredBar) -> Uuid {
    let (at, revision) = (bar.open_time.as_millisecond(), bar.revision());
    named(&format!("bar {series} {at} {revision}"))
}

/// The id of the event that a sync ended so.
pub(super) fn sync_id(sync: Uuid, ended: EventType) -> Uuid {
    named(&format!("{ended} {sync}"))
}

fn gap_id(symbol: &Symbol, start: Timestamp, end: Timestamp) -> Uuid {
    named(&format!("gap {symbol} {} {}", start.as_nanosecond(), end.as_nanosecond()))
}

/// A version 8 UUID of the SHA-256 of `name`.
fn named(name: &str) -> Uuid {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(Sha256::digest(name)) {
        *to = from;
    }
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The message that webhooks are sent: `{"type", "timestamp", "data"}`.
pub(super) fn body(event: &DomainEvent) -> Bytes {
    message(event.payload.event_type(), event.time, &data(&event.payload))
}

/// The message of a bar from the log.
pub(super) fn bar_body(series: &Series, range: BarRange, bar: &StoredBar, at: Timestamp) -> Bytes {
    message(bar_event(bar), at, &bar_data(series, bar, Some(range)))
}

/// What it means that a bar is in the log.
pub(super) fn bar_event(bar: &StoredBar) -> EventType {
    if bar.revision() > 1 { EventType::BarRevised } else { EventType::BarClosed }
}

/// What an event is, without its type and time.
pub(super) fn data(payload: &EventPayload) -> Value {
    match payload {
        EventPayload::HistoricalDataSynced { series, inserted, updated } => json!({
            "symbol": series.symbol.as_str(), "interval": series.interval.as_str(),
            "bars_inserted": inserted, "bars_updated": updated,
        }),
        EventPayload::SyncFailed { series, error } => json!({
            "symbol": series.symbol.as_str(), "interval": series.interval.as_str(),
            "error": error,
        }),
        EventPayload::BarCompleted { series, bar } => {
            bar_data(series, &bar.stored, Some(bar.range))
        }
        EventPayload::BarRevised { series, old, new } => {
            let mut data = bar_data(series, new, None);
            if let Value::Object(fields) = &mut data {
                fields.insert("previous".to_owned(), bar_data(series, old, None));
            }
            data
        }
        EventPayload::GapDetected { symbol, start, end } => json!({
            "symbol": symbol.as_str(),
            "start_time": start.to_string(), "end_time": end.to_string(),
        }),
        EventPayload::FeedConnected => json!({}),
        EventPayload::FeedLost { error } => json!({ "error": error }),
    }
}

fn message(event_type: EventType, at: Timestamp, data: &Value) -> Bytes {
    let message = json!({ "type": event_type.as_str(), "timestamp": at.to_string(), "data": data });
    Bytes::from(message.to_string())
}

fn bar_data(series: &Series, bar: &StoredBar, range: Option<BarRange>) -> Value {
    let values = &bar.values;
    let mut data = json!({
        "symbol": series.symbol.as_str(), "interval": series.interval.as_str(),
        "open_time": bar.open_time.to_string(),
        "open": values.open(), "high": values.high(), "low": values.low(),
        "close": values.close(),
        "state": bar.state().as_str(), "revision": bar.revision(),
        "source": bar.source.as_str(),
    });
    // What is not known is not said.
    let known = [
        ("close_time", range.map(|range| json!(range.close().to_string()))),
        ("volume", values.volume().map(|volume| json!(volume))),
        ("tick_count", bar.tick_count.map(|ticks| json!(ticks))),
    ];
    if let Value::Object(fields) = &mut data {
        let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        fields.extend(known);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ohlcv::{Bar, BarSource, Ohlcv};
    use crate::domain::shared::Interval;

    fn closed() -> (Series, Bar) {
        let series = Series::new(Symbol::parse("CME:ES").unwrap(), Interval::M1);
        let open = Timestamp::from_second(1_700_000_040).unwrap();
        let close = Timestamp::from_second(1_700_000_100).unwrap();
        let values = Ohlcv::new(1.5, 2.0, 1.0, 1.75, None).unwrap();
        let stored = StoredBar::closed(open, values, BarSource::Ticks);
        (series, Bar { range: BarRange::new(open, close).unwrap(), stored })
    }

    #[test]
    fn a_bars_event_has_one_id_whoever_tells_it_and_each_revision_its_own() {
        let (series, bar) = closed();
        let told = EventPayload::BarCompleted { series: series.clone(), bar };
        assert_eq!(id(&told), bar_id(&series, &bar.stored));
        assert_eq!(id(&told).get_version_num(), 8);
        let new = bar.stored.revised(bar.stored.values, BarSource::Provider);
        let old = bar.stored;
        let revised = EventPayload::BarRevised { series: series.clone(), old, new };
        assert_eq!(id(&revised), bar_id(&series, &new));
        assert_ne!(id(&revised), id(&told));
        let other = Series::new(series.symbol, Interval::M3);
        assert_ne!(bar_id(&other, &bar.stored), id(&told));
    }

    #[test]
    fn a_message_is_type_timestamp_and_data() {
        let (series, bar) = closed();
        let at = Timestamp::from_second(1_700_000_102).unwrap();
        let body = bar_body(&series, bar.range, &bar.stored, at);
        let message: Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({
            "type": "bar.closed", "timestamp": "2023-11-14T22:15:02Z",
            "data": {
                "symbol": "CME:ES", "interval": "1m",
                "open_time": "2023-11-14T22:14:00Z", "close_time": "2023-11-14T22:15:00Z",
                "open": 1.5, "high": 2.0, "low": 1.0, "close": 1.75,
                "state": "CLOSED", "revision": 1, "source": "TICKS",
            },
        });
        assert_eq!(message, expected);
        let event = DomainEvent { time: at, payload: EventPayload::BarCompleted { series, bar } };
        assert_eq!(super::body(&event), body);
    }
}
