//! A file of trades: `time,price,size`, ascending, compressed. It is read as a stream, into bars of
//! a minute, or into a tape to be replayed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::WorldBar;
use super::bars_file::{decimals, number};
use crate::domain::ohlcv::Ohlcv;
use crate::domain::ohlcv::services::roll_up;
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;
use crate::simulator::SimulatorError;
use crate::simulator::replay::{Tape, Trade};

/// What a file of trades comes to.
pub(super) struct TradesFile {
    pub(super) minutes: Vec<WorldBar>,
    /// Time and price of the last trade.
    pub(super) last: Option<(Timestamp, f64)>,
    /// Most decimals of a price.
    pub(super) decimals: u32,
}

/// Reads the trades at `path` up to `now`.
pub(super) fn read(
    path: &Path,
    session: &Arc<TradingSession>,
    now: Option<Timestamp>,
) -> Result<TradesFile, SimulatorError> {
    let mut trades = open(path, now)?;
    let minutes = roll_up(std::iter::from_fn(|| trades.advance()), session, Interval::M1);
    trades.check(path)?;
    let minutes = minutes.iter().map(|bar| WorldBar::new(bar.range.open(), &bar.values)).collect();
    Ok(TradesFile { minutes, last: trades.last, decimals: trades.decimals })
}

/// Reads the trades at `path` to be replayed, and the most decimals of a price; no tape where there
/// are none.
pub(super) fn read_tape(path: &Path) -> Result<(Option<Tape>, u32), SimulatorError> {
    let mut rows = open(path, None)?;
    let mut trades = Vec::new();
    while let Some((time, values)) = rows.advance() {
        trades.push(Trade::new(time, values.close(), values.volume()));
    }
    rows.check(path)?;
    Ok((Tape::new(trades), rows.decimals))
}

fn open(path: &Path, until: Option<Timestamp>) -> Result<Trades<impl Read>, SimulatorError> {
    let unreadable = |source| SimulatorError::Read { path: path.to_owned(), source };
    let input = File::open(path).map_err(unreadable)?;
    let input = MultiGzDecoder::new(BufReader::new(input));
    Ok(Trades {
        rows: csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input),
        record: csv::StringRecord::new(),
        until: until.unwrap_or(Timestamp::MAX),
        last: None,
        decimals: 0,
        wrong: None,
    })
}

/// The trades one after the other, each as a bar of its own. Ends at `until`, and at the first that
/// is wrong.
struct Trades<R> {
    rows: csv::Reader<R>,
    record: csv::StringRecord,
    until: Timestamp,
    last: Option<(Timestamp, f64)>,
    decimals: u32,
    wrong: Option<(u64, String)>,
}

impl<R: Read> Trades<R> {
    /// Whether all of them could be read.
    fn check(&mut self, path: &Path) -> Result<(), SimulatorError> {
        match self.wrong.take() {
            Some((line, reason)) => {
                Err(SimulatorError::Line { path: path.to_owned(), line, reason })
            }
            None => Ok(()),
        }
    }

    fn advance(&mut self) -> Option<(Timestamp, Ohlcv)> {
        let read = self.rows.read_record(&mut self.record).map_err(|error| error.to_string());
        let trade = match read {
            Ok(false) => return None,
            Ok(true) => self.trade(),
            Err(reason) => Err(reason),
        };
        match trade {
            Ok((time, _)) if time > self.until => None,
            Ok((time, values)) => {
                self.last = Some((time, values.close()));
                Some((time, values))
            }
            Err(reason) => {
                self.wrong = Some((self.rows.position().line(), reason));
                None
            }
        }
    }

    fn trade(&mut self) -> Result<(Timestamp, Ohlcv), String> {
        let text = |column: usize| self.record.get(column).unwrap_or_default();
        let unreadable = |_| format!("`{}` is no time", text(0).escape_debug());
        let time: Timestamp = text(0).parse().map_err(unreadable)?;
        let (price, size) = (number(text(1))?, number(text(2))?);
        let values = Ohlcv::new(price, price, price, price, Some(size));
        let values = values.map_err(|error| error.to_string())?;
        if self.last.is_some_and(|(last, _)| last > time) {
            return Err(format!("{time} is before the trade before it"));
        }
        self.decimals = decimals(text(1)).max(self.decimals);
        Ok((time, values))
    }
}
