//! A file of bars: `time,open,high,low,close[,volume]`, ascending; compressed if it ends in `.gz`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};

use super::{Facts, WorldBar};
use crate::domain::shared::Interval;
use crate::domain::symbol::{SessionSpec, TradingSession};
use crate::simulator::SimulatorError;

/// Days that are searched for the first session of a dated week or month.
const SEARCH_DAYS: i64 = 31;

/// What a file of bars holds.
pub(super) struct BarsFile {
    pub(super) bars: Vec<WorldBar>,
    /// Most decimals of a price.
    pub(super) decimals: u32,
}

/// When days open.
struct Sessions<'a> {
    real: &'a TradingSession,
    without_holidays: Option<TradingSession>,
}

/// Where each column is.
struct Columns {
    time: usize,
    prices: [usize; 4],
    volume: Option<usize>,
}

/// Reads the bars of `interval` at `path`. Dates are stamped at the open of the session of `facts`.
pub(super) fn read(
    path: &Path,
    interval: Interval,
    facts: &Facts,
) -> Result<BarsFile, SimulatorError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open(path)?);
    let wrong = |line, reason| SimulatorError::Line { path: path.to_owned(), line, reason };
    let header = reader.headers().map_err(|error| wrong(1, error.to_string()))?;
    let columns = columns(header).map_err(|reason| wrong(1, reason))?;
    let sessions = Sessions { real: &facts.session, without_holidays: without_holidays(facts) };
    let mut file = BarsFile { bars: Vec::new(), decimals: 0 };
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(file),
            Err(error) => return Err(wrong(line, error.to_string())),
        }
        let line = record.position().map_or(line, csv::Position::line);
        let bar =
            bar(&record, &columns, interval, &sessions).map_err(|reason| wrong(line, reason))?;
        if file.bars.last().is_some_and(|last| last.open_time >= bar.open_time) {
            return Err(wrong(line, format!("{} is not after the bar before it", bar.open_time)));
        }
        let prices = columns.prices.iter().filter_map(|column| record.get(*column));
        file.decimals = prices.map(decimals).max().unwrap_or_default().max(file.decimals);
        file.bars.push(bar);
    }
}

fn open(path: &Path) -> Result<Box<dyn Read>, SimulatorError> {
    let unreadable = |source| SimulatorError::Read { path: path.to_owned(), source };
    let file = BufReader::new(File::open(path).map_err(unreadable)?);
    let is_compressed = path.extension().is_some_and(|ending| ending == "gz");
    Ok(if is_compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn without_holidays(facts: &Facts) -> Option<TradingSession> {
    let SessionSpec { timezone, session, .. } = facts.spec.clone();
    TradingSession::parse(&SessionSpec { timezone, session, ..SessionSpec::default() }).ok()
}

fn columns(header: &csv::StringRecord) -> Result<Columns, String> {
    let find = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let need = |name: &str| {
        find(name).ok_or_else(|| {
            format!("no column `{name}`: the header is time,open,high,low,close,volume")
        })
    };
    let prices = [need("open")?, need("high")?, need("low")?, need("close")?];
    Ok(Columns { time: need("time")?, prices, volume: find("volume") })
}

fn bar(
    record: &csv::StringRecord,
    columns: &Columns,
    interval: Interval,
    sessions: &Sessions<'_>,
) -> Result<WorldBar, String> {
    let text = |column: usize| record.get(column).unwrap_or_default();
    let [open, high, low, close] = columns.prices.map(|column| number(text(column)));
    let volume = columns.volume.map(text).filter(|text| !text.is_empty());
    Ok(WorldBar {
        open_time: open_time(text(columns.time), interval, sessions)?,
        open: open?,
        high: high?,
        low: low?,
        close: close?,
        volume: volume.map(number).transpose()?,
    })
}

/// A number that JSON can carry.
pub(super) fn number(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("`{}` is no number", text.escape_debug()))
}

/// Digits after the decimal point.
pub(super) fn decimals(text: &str) -> u32 {
    let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
    u32::try_from(digits).unwrap_or(u32::MAX)
}

fn open_time(text: &str, interval: Interval, sessions: &Sessions<'_>) -> Result<Timestamp, String> {
    let unreadable = || format!("`{}` is no time", text.escape_debug());
    if text.len() > "YYYY-MM-DD".len() {
        return text.parse().map_err(|_| unreadable());
    }
    let date: Date = text.parse().map_err(|_| unreadable())?;
    if interval.is_intraday() {
        return Err(format!("`{text}` is a date: a bar of {interval} needs a time"));
    }
    let session = sessions.real;
    let open = if interval == Interval::D1 {
        // A bar on a day that the calendar calls a holiday: its session would have opened then.
        [Some(session), sessions.without_holidays.as_ref()]
            .into_iter()
            .flatten()
            .find_map(|session| session.day_range(date))
    } else {
        let day = |days: i64| session.day_range(date.checked_add(days.days()).ok()?);
        let first = (0..=SEARCH_DAYS).find_map(day);
        first.and_then(|first| session.bar_range(interval, first.open()))
    };
    let midnight = || date.to_zoned(jiff::tz::TimeZone::UTC).map(|time| time.timestamp()).ok();
    open.map(|range| range.open()).or_else(midnight).ok_or_else(unreadable)
}
