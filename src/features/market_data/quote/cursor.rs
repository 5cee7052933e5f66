//! Where a stream of bars stands: opaque to clients.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::domain::shared::{Interval, Series, Symbol};

/// The form of cursors this version gives out.
const VERSION: &str = "2";

/// A place in the bar log, and while stored bars are sent, the place in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Log entries up to this one were sent.
    pub(super) sequence: u64,
    /// Set while stored bars are sent.
    pub(super) stored: Option<StoredPosition>,
}

/// The last stored bar that was sent, in the order in which they are: by close, symbol, interval,
/// open. Two bars of a series may close together, where one of them opened off the grid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoredPosition {
    /// When it closed.
    pub(super) close_time: Timestamp,
    /// Whose bar it was.
    pub(super) symbol: Symbol,
    /// Of which length.
    pub(super) interval: Interval,
    /// When it opened; none is a place before all that closed together. Cursors of earlier versions
    /// do not say it: whoever resumes with one may get its bar twice, and misses none.
    pub(super) open_time: Option<Timestamp>,
    /// Where the stored bars began.
    pub(super) start_time: Timestamp,
    /// Which symbols and intervals are sent: see [`digest`]. Others have no bars before this one
    /// that were sent.
    pub(super) query: u32,
}

/// Tells lists of symbols and intervals apart, in whatever order they come.
pub(super) fn digest(symbols: &[Symbol], intervals: &[Interval]) -> u32 {
    let (symbols, intervals) = (BTreeSet::from_iter(symbols), BTreeSet::from_iter(intervals));
    let mut hash = Sha256::new();
    for symbol in symbols {
        hash.update(format!("{symbol} "));
    }
    for interval in intervals {
        hash.update(format!("{interval} "));
    }
    hash.finalize().iter().take(4).fold(0, |all, byte| all << 8 | u32::from(*byte))
}

impl Cursor {
    /// Behind the log entry `sequence`.
    pub(super) const fn at(sequence: u64) -> Self {
        Self { sequence, stored: None }
    }

    /// As it is given to clients.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{VERSION} {}", self.sequence);
        if let Some(stored) = &self.stored {
            let series = Series::new(stored.symbol.clone(), stored.interval);
            let (start, close) = (stored.start_time, stored.close_time);
            let (start, close) = (start.as_millisecond(), close.as_millisecond());
            text = format!("{text} {start} {close} {} {series}", stored.query);
            if let Some(open) = stored.open_time {
                text = format!("{text} {}", open.as_millisecond());
            }
        }
        URL_SAFE_NO_PAD.encode(text)
    }

    /// A cursor that was given out; none where `text` is no such thing.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let read = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        // A damaged one may still read as another place.
        Self::read(&read).filter(|cursor| cursor.encode() == text)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        if parts.next()? != VERSION {
            return None;
        }
        let sequence = parts.next()?.parse().ok()?;
        let time = |text: &str| Timestamp::from_millisecond(text.parse().ok()?).ok();
        let Some(start_time) = parts.next() else { return Some(Self::at(sequence)) };
        let (start_time, close_time) = (time(start_time)?, time(parts.next()?)?);
        let query = parts.next()?.parse().ok()?;
        let symbol = Symbol::parse(parts.next()?).ok()?;
        let interval = parts.next()?.parse().ok()?;
        let open_time = parts.next().map(|text| time(text).ok_or(())).transpose().ok()?;
        let stored = StoredPosition { close_time, symbol, interval, open_time, start_time, query };
        Some(Self { sequence, stored: Some(stored) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_in_another_form_is_none() {
        for text in ["2 7", "1 7", "3 7", "2 07", "2 +7", "2 7 ", "2 7 x", "2 7 0 0 0 A:B 1m x"] {
            let read = Cursor::decode(&URL_SAFE_NO_PAD.encode(text));
            assert_eq!(read, (text == "2 7").then_some(Cursor::at(7)), "{text}");
        }
    }

    #[test]
    fn a_place_without_an_open_time_is_before_all_bars_that_closed_together() {
        let [earlier, first, second] = ["", " 0", " 1694000"].map(|open| {
            let text = format!("2 7 0 3600000 5 A:B 1h{open}");
            Cursor::decode(&URL_SAFE_NO_PAD.encode(text)).unwrap().stored.unwrap()
        });
        assert!(earlier < first && first < second);
    }

    #[test]
    fn lists_of_the_same_are_the_same_in_any_order_and_others_are_not() {
        let [a, b] = ["CME:ES", "CME:NQ"].map(|text| Symbol::parse(text).unwrap());
        let both = digest(&[a.clone(), b.clone()], &[Interval::M1, Interval::H1]);
        assert_eq!(both, digest(&[b.clone(), a.clone()], &[Interval::H1, Interval::M1]));
        assert_ne!(both, digest(&[a.clone(), b], &[Interval::M1]));
        assert_ne!(both, digest(&[a], &[Interval::M1, Interval::H1]));
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was_given_out(
            sequence: u64,
            stored in proptest::option::of((0_i64..1_000_000_000, 0_usize..13, any::<bool>())),
        ) {
            let time = |second| Timestamp::from_second(second).unwrap();
            let stored = stored.map(|(second, interval, opened)| StoredPosition {
                close_time: time(second + 60),
                symbol: Symbol::parse("CME_MINI:ES1!").unwrap(),
                interval: Interval::ALL[interval],
                open_time: opened.then(|| time(second)),
                start_time: time(second),
                query: 7,
            });
            let cursor = Cursor { sequence, stored };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn what_was_not_given_out_is_none(text in "\\PC{0,60}") {
            prop_assert_eq!(Cursor::decode(&text).map(|cursor| cursor.encode()), None);
        }
    }
}
