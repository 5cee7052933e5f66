//! From documents to the domain: tolerant of what an existing database holds, strict about what
//! cannot be a bar.

use jiff::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{RawBsonRef, RawDocument};

use super::DatabaseError;
use crate::domain::ohlcv::{BarSource, BarState, Ohlcv, StoredBar};

/// The bar in `document`, of the series that `key` names. Absent fields read as an existing
/// database means them: closed, revision 1, from the provider, finality unknown.
pub(super) fn bar(
    document: &RawDocument,
    key: &dyn std::fmt::Display,
) -> Result<StoredBar, DatabaseError> {
    let mut fields = BarFields::default();
    let read = fields.read(document).and_then(|()| fields.into_bar());
    read.map_err(|detail| {
        let at = match fields.open_time {
            Some(at) => format!("{key} at {at} ms"),
            None => key.to_string(),
        };
        DatabaseError::corrupt(super::ohlcv::COLLECTION, at, detail)
    })
}

/// The bar in `document`; absent fields read as [`bar`] reads them.
pub(super) fn bar_fields(document: &RawDocument) -> Result<StoredBar, String> {
    let mut fields = BarFields::default();
    fields.read(document)?;
    fields.into_bar()
}

/// The fields of a bar's document, as far as they were there.
#[derive(Clone, Copy, Default)]
struct BarFields<'document> {
    open_time: Option<i64>,
    open: Option<f64>,
    high: Option<f64>,
    low: Option<f64>,
    close: Option<f64>,
    volume: Option<f64>,
    state: Option<&'document str>,
    revision: Option<u32>,
    source: Option<&'document str>,
    tick_count: Option<u32>,
}

impl<'document> BarFields<'document> {
    fn read(&mut self, document: &'document RawDocument) -> Result<(), String> {
        for element in document.iter_elements() {
            let element = element.map_err(|error| error.to_string())?;
            let name = element.key().as_str();
            let value = || element.value().map_err(|error| error.to_string());
            match name {
                "datetime" => self.open_time = Some(milliseconds(name, value()?)?),
                "open" => self.open = number(name, value()?)?,
                "high" => self.high = number(name, value()?)?,
                "low" => self.low = number(name, value()?)?,
                "close" => self.close = number(name, value()?)?,
                // Some tools write a volume that is not there as NaN.
                "volume" => self.volume = number(name, value()?)?.filter(|volume| !volume.is_nan()),
                "state" => self.state = text(name, value()?)?,
                "revision" => self.revision = whole(name, value()?)?,
                "source" => self.source = text(name, value()?)?,
                "tick_count" => self.tick_count = whole(name, value()?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn into_bar(self) -> Result<StoredBar, String> {
        let missing = |name: &str| format!("`{name}` is missing");
        let at = self.open_time.ok_or_else(|| missing("datetime"))?;
        let open_time = Timestamp::from_millisecond(at).map_err(|error| error.to_string())?;
        let price = |value: Option<f64>, name| value.ok_or_else(|| missing(name));
        let values = Ohlcv::new(
            price(self.open, "open")?,
            price(self.high, "high")?,
            price(self.low, "low")?,
            price(self.close, "close")?,
            self.volume,
        )
        .map_err(|error| error.to_string())?;
        let (revision, finality_unknown) = revision(self.state, self.revision)?;
        let source = match self.source {
            Some(source) => source.parse().map_err(|error| format!("{error}"))?,
            None => BarSource::Provider,
        };
        let mut bar = StoredBar::with_revision(open_time, values, revision, source);
        bar.tick_count = self.tick_count;
        bar.finality_unknown = finality_unknown;
        Ok(bar)
    }
}

/// A bar's revision from its state and revision as stored, and whether its finality is unknown.
pub(super) fn revision(state: Option<&str>, revision: Option<u32>) -> Result<(u32, bool), String> {
    let Some(state) = state else { return Ok((revision.unwrap_or(1).max(1), true)) };
    let state: BarState = state.parse().map_err(|error| format!("{error}"))?;
    let revision = match state {
        BarState::Forming => 0,
        BarState::Closed => 1,
        BarState::Revised => revision.unwrap_or(2).max(2),
    };
    Ok((revision, false))
}

/// Any number; none where it is null.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other types are wrong alike")]
pub(super) fn number(name: &str, value: RawBsonRef<'_>) -> Result<Option<f64>, String> {
    match value {
        RawBsonRef::Double(value) => Ok(Some(super::super::stored_number(value))),
        RawBsonRef::Int32(value) => Ok(Some(f64::from(value))),
        #[expect(clippy::cast_precision_loss, reason = "prices and volumes are doubles")]
        RawBsonRef::Int64(value) => Ok(Some(value as f64)),
        RawBsonRef::Decimal128(value) => {
            value.to_string().parse().map(Some).map_err(|_| format!("`{name}` is no number"))
        }
        RawBsonRef::Null | RawBsonRef::Undefined => Ok(None),
        _ => Err(format!("`{name}` is no number")),
    }
}

/// A whole number that is not negative, however it is stored; none where it is null.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other types are wrong alike")]
pub(super) fn whole<T: TryFrom<i64>>(
    name: &str,
    value: RawBsonRef<'_>,
) -> Result<Option<T>, String> {
    let wrong = || format!("`{name}` is no count");
    let value = match value {
        RawBsonRef::Int32(value) => i64::from(value),
        RawBsonRef::Int64(value) => value,
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        RawBsonRef::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => value as i64,
        RawBsonRef::Null | RawBsonRef::Undefined => return Ok(None),
        _ => return Err(wrong()),
    };
    T::try_from(value).map(Some).map_err(|_| wrong())
}

/// A text; none where it is null.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other types are wrong alike")]
pub(super) fn text<'document>(
    name: &str,
    value: RawBsonRef<'document>,
) -> Result<Option<&'document str>, String> {
    match value {
        RawBsonRef::String(text) => Ok(Some(text)),
        RawBsonRef::Null | RawBsonRef::Undefined => Ok(None),
        _ => Err(format!("`{name}` is no text")),
    }
}

/// A date; none where it is null.
pub(super) fn time(name: &str, value: RawBsonRef<'_>) -> Result<Option<Timestamp>, String> {
    if matches!(value, RawBsonRef::Null | RawBsonRef::Undefined) {
        return Ok(None);
    }
    let time = Timestamp::from_millisecond(milliseconds(name, value)?);
    time.map(Some).map_err(|error| error.to_string())
}

/// When the document was made, where it does not say: from its id.
pub(super) fn made_at(id: Option<ObjectId>) -> Timestamp {
    let at = id.map(|id| id.timestamp().timestamp_millis()).unwrap_or_default();
    Timestamp::from_millisecond(at).unwrap_or_default()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other types are wrong alike")]
fn milliseconds(name: &str, value: RawBsonRef<'_>) -> Result<i64, String> {
    match value {
        RawBsonRef::DateTime(time) => Ok(time.timestamp_millis()),
        _ => Err(format!("`{name}` is no date")),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{DateTime, Decimal128, RawDocumentBuf, rawdoc};

    use super::*;

    fn old() -> RawDocumentBuf {
        rawdoc! {
            "symbol": "AAPL", "exchange": "NASDAQ", "interval": "1d",
            "datetime": DateTime::from_millis(1_000),
            "open": 1, "high": 2_i64, "low": "0.5".parse::<Decimal128>().unwrap(), "close": 1.5,
            "volume": 7_i64,
        }
    }

    #[test]
    fn a_document_of_the_old_shape_is_closed_with_unknown_finality() {
        let bar = bar(&old(), &"k").unwrap();
        assert_eq!(bar.values, Ohlcv::new(1.0, 2.0, 0.5, 1.5, Some(7.0)).unwrap());
        assert_eq!((bar.revision(), bar.source, bar.tick_count), (1, BarSource::Provider, None));
        assert!(bar.finality_unknown);
    }

    #[test]
    fn state_decides_finality_and_revision_its_number() {
        for (state, stored, expected) in [
            (Some("FORMING"), None, (0, false)),
            (Some("CLOSED"), None, (1, false)),
            (Some("REVISED"), Some(4), (4, false)),
            (None, Some(1), (1, true)),
        ] {
            assert_eq!(revision(state, stored), Ok(expected));
        }
        assert!(revision(Some("LATER"), None).is_err());
    }

    #[test]
    fn what_cannot_be_a_bar_is_named_with_its_key() {
        for (name, wrong) in [("high", 0.1), ("open", f64::NAN), ("volume", -1.0)] {
            let mut document = RawDocumentBuf::new();
            for (key, value) in old().iter().map(Result::unwrap) {
                if key.as_str() != name {
                    document.append(key, value);
                }
            }
            document.append(mongodb::bson::raw::CString::try_from(name).unwrap(), wrong);
            let error = bar(&document, &"NASDAQ:AAPL 1d").unwrap_err();
            assert!(
                matches!(&error, DatabaseError::Corrupt { key, .. } if key.contains("AAPL 1d at 1000")),
                "{error}"
            );
        }
        assert!(bar(&rawdoc! { "open": "x" }, &"k").is_err());
    }
}
