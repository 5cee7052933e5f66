//! Finds the files of a folder and puts each instrument's together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tracing::warn;

use super::catalogue::{self, Entry};
use super::instrument::{Instrument, Sources};
use super::moving::{Moving, moving};
use super::{bars_file, trades_file};
use crate::domain::shared::{Interval, Symbol};
use crate::simulator::SimulatorError;
use crate::simulator::replay::{Pulse, ReplayConfig};

/// How the names of files of bars end.
const BARS_SUFFIXES: [&str; 2] = [".csv", ".csv.gz"];
/// What is appended to an instrument's name in the name of its file of trades.
const TRADES_SUFFIX: &str = "_trades.csv.gz";

/// The files that begin with one name.
#[derive(Default)]
struct Files {
    bars: BTreeMap<Interval, PathBuf>,
    trades: Option<PathBuf>,
}

/// How the world moves, and whom it tells.
type Replaying<'a> = Option<(ReplayConfig, &'a Arc<Pulse>)>;

/// The instruments of the folder `data`.
pub(super) fn read(
    data: &Path,
    now: Option<Timestamp>,
    replay: Replaying<'_>,
) -> Result<Vec<Instrument>, SimulatorError> {
    let mut by_stem: BTreeMap<String, Files> = BTreeMap::new();
    list_bars(data, &mut by_stem)?;
    list_trades(data, &mut by_stem)?;
    let mut instruments = Vec::new();
    let mut described = Vec::new();
    for (stem, entry) in catalogue::read(data)? {
        if let Some(files) = by_stem.get(&stem) {
            instruments.push(assemble(entry, files, now, replay)?);
            described.push(stem);
        } else {
            let symbol = entry.facts.symbol;
            warn!(%symbol, "symbols.json names {symbol}, which has neither bars nor trades");
        }
    }
    for (stem, files) in by_stem.iter().filter(|(stem, _)| !described.contains(stem)) {
        let path = files.bars.values().chain(&files.trades).next().cloned().unwrap_or_default();
        let symbol = symbol_of(stem, &path)?;
        let entry = Entry { facts: catalogue::default_facts(symbol), price_scale: None };
        instruments.push(assemble(entry, files, now, replay)?);
    }
    Ok(instruments)
}

fn assemble(
    entry: Entry,
    files: &Files,
    now: Option<Timestamp>,
    replay: Replaying<'_>,
) -> Result<Instrument, SimulatorError> {
    let mut facts = entry.facts;
    let mut sources = Sources::default();
    let mut decimals = 0;
    let mut tape = None;
    if let (Some((config, _)), Some(path)) = (replay, files.trades.as_deref()) {
        let (trades, of_prices) = trades_file::read_tape(path)?;
        decimals = of_prices;
        tape = trades.map(|tape| Moving::new(tape, config, &mut facts));
    }
    for (interval, path) in &files.bars {
        let file = bars_file::read(path, *interval, &facts)?;
        decimals = decimals.max(file.decimals);
        sources.bars.insert(*interval, file.bars);
    }
    // Where there are minutes and the world does not stop in the middle of one, half a million
    // trades would tell nothing new.
    let wanted = replay.is_none() && (now.is_some() || !sources.bars.contains_key(&Interval::M1));
    if let Some(path) = files.trades.as_deref().filter(|_| wanted) {
        let trades = trades_file::read(path, &facts.session, now)?;
        decimals = decimals.max(trades.decimals);
        sources.minutes_of_trades = trades.minutes;
        sources.last_trade = trades.last;
    }
    facts.price_scale = entry.price_scale.unwrap_or_else(|| 10_u32.saturating_pow(decimals.min(9)));
    let Some((config, pulse)) = replay else { return Ok(Instrument::new(facts, sources, now)) };
    let tape = tape.or_else(|| Moving::walk(&sources, config, &mut facts));
    Ok(match tape {
        Some(tape) => moving(facts, sources, tape, config, pulse),
        None => Instrument::new(facts, sources, now),
    })
}

fn list_bars(data: &Path, by_stem: &mut BTreeMap<String, Files>) -> Result<(), SimulatorError> {
    for (name, path) in list(data)? {
        let Some(base) = BARS_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) else {
            continue;
        };
        let refused = |reason: String| SimulatorError::FileName { path: path.clone(), reason };
        let (stem, interval) =
            base.rsplit_once('_').ok_or_else(|| refused("no interval in its name".to_owned()))?;
        let interval = interval.parse().map_err(|error| refused(format!("{error}")))?;
        let bars = &mut by_stem.entry(stem.to_owned()).or_default().bars;
        if let Some(other) = bars.insert(interval, path.clone()) {
            let reason = format!("`{}` holds the same series", other.display());
            return Err(SimulatorError::FileName { path, reason });
        }
    }
    Ok(())
}

fn list_trades(data: &Path, by_stem: &mut BTreeMap<String, Files>) -> Result<(), SimulatorError> {
    let folder = data.join("ticks");
    if !folder.is_dir() {
        return Ok(());
    }
    for (name, path) in list(&folder)? {
        if let Some(stem) = name.strip_suffix(TRADES_SUFFIX) {
            by_stem.entry(stem.to_owned()).or_default().trades = Some(path);
        }
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, SimulatorError> {
    let unreadable = |source| SimulatorError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        if let Some(name) = name.filter(|name| !name.starts_with('.') && path.is_file()) {
            files.push((name, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The symbol that a file's name tells of, split at its first underscore.
fn symbol_of(stem: &str, path: &Path) -> Result<Symbol, SimulatorError> {
    let refused = |reason: String| SimulatorError::FileName { path: path.to_owned(), reason };
    let (exchange, code) =
        stem.split_once('_').ok_or_else(|| refused("no exchange in its name".to_owned()))?;
    Symbol::new(exchange, code).map_err(|error| refused(error.to_string()))
}
