//! The real bars that the binary carries; `demo/README.md` names their sources and licences.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use jiff::Timestamp;
use serde::Deserialize;

use super::super::times::parse_time;
use super::live::FileMinutes;

const DAMAGED: &str = "the demo's data is damaged";

const SYMBOLS: &[u8] = include_bytes!("../../../demo/symbols.json");

/// The trades that are replayed; the simulator unpacks them itself.
const TRADES: &[u8] = include_bytes!("../../../demo/ticks/CME_ES_trades.csv.gz");

/// Name (of the file, without its ending) and content.
const FILES: [(&str, &[u8]); 3] = [
    ("BINANCE_BTCUSDT_1h", include_bytes!("../../../demo/BINANCE_BTCUSDT_1h.csv.gz")),
    ("NYSE_IBM_1d", include_bytes!("../../../demo/NYSE_IBM_1d.csv.gz")),
    ("NASDAQ_AAPL-UNADJ_1d", include_bytes!("../../../demo/NASDAQ_AAPL-UNADJ_1d.csv.gz")),
];
/// What the trades come to, minute by minute.
const MINUTES: &[u8] = include_bytes!("../../../demo/CME_ES_1m.csv.gz");

/// The times in each file, oldest first, by its name.
pub(super) type FileTimes = HashMap<&'static str, Vec<Timestamp>>;

/// The column that is read here; the simulator reads the rest.
#[derive(Deserialize)]
struct Row {
    time: String,
}

/// Unpacks the files into `folder`.
pub(super) fn unpack(folder: &Path) -> anyhow::Result<FileTimes> {
    fs::create_dir_all(folder).context("cannot make a temporary folder")?;
    let write = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))
    };
    write("symbols.json", SYMBOLS)?;
    fs::create_dir_all(folder.join("ticks")).context("cannot make a temporary folder")?;
    write("ticks/CME_ES_trades.csv.gz", TRADES)?;
    let mut times = FileTimes::new();
    for (name, packed) in FILES {
        let content = unpacked(packed)?;
        write(&format!("{name}.csv"), &content)?;
        times.insert(name, times_in(&content)?);
    }
    Ok(times)
}

/// The minutes that the trades come to.
pub(super) fn minutes() -> anyhow::Result<FileMinutes> {
    let content = unpacked(MINUTES)?;
    let mut rows = csv::Reader::from_reader(content.as_slice());
    let read = |row: Result<MinuteRow, csv::Error>| {
        let (time, open, high, low, close, volume) = row.context(DAMAGED)?;
        let time = parse_time(&time).map_err(anyhow::Error::msg).context(DAMAGED)?;
        Ok((time, [open, high, low, close, volume]))
    };
    rows.deserialize().map(read).collect()
}

/// Time, open, high, low, close, volume.
type MinuteRow = (String, f64, f64, f64, f64, f64);

fn unpacked(packed: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut content).context(DAMAGED)?;
    Ok(content)
}

fn times_in(content: &[u8]) -> anyhow::Result<Vec<Timestamp>> {
    let mut rows = csv::Reader::from_reader(content);
    let read = |row: Result<Row, csv::Error>| {
        parse_time(&row?.time).map_err(anyhow::Error::msg).context(DAMAGED)
    };
    rows.deserialize().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_hold_what_their_readme_says() {
        let folder = tempfile::tempdir().unwrap();
        let times = unpack(folder.path()).unwrap();
        let rows = |name: &str| times.get(name).map_or(0, Vec::len);
        assert_eq!(rows("BINANCE_BTCUSDT_1h"), 55_765);
        assert_eq!((rows("NYSE_IBM_1d"), rows("NASDAQ_AAPL-UNADJ_1d")), (3_270, 3_270));
        assert_eq!(minutes().unwrap().len(), 2_264);
        assert!(times.values().all(|times| times.is_sorted()));
    }
}
