//! `symbols.json`: what is known about the instruments beside their bars.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use jiff::civil::Date;
use serde::Deserialize;

use super::Facts;
use crate::domain::shared::Symbol;
use crate::domain::symbol::{AROUND_THE_CLOCK, SessionSpec, TradingSession};
use crate::simulator::SimulatorError;

/// The entries of the file, each with the name that its files begin with.
pub(super) type Catalogue = Vec<(String, Entry)>;

/// An instrument that the file describes; its price scale is for its bars to say where it does not.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) price_scale: Option<u32>,
}

#[derive(Deserialize)]
struct CatalogueFile {
    #[serde(default)]
    calendars: BTreeMap<String, CalendarFile>,
    #[serde(default)]
    symbols: Vec<SymbolFile>,
}

#[derive(Deserialize)]
struct CalendarFile {
    timezone: String,
    session: String,
    #[serde(default)]
    holidays: Vec<String>,
    #[serde(default)]
    early_closes: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct SymbolFile {
    symbol: String,
    file: Option<String>,
    description: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    currency: Option<String>,
    calendar: Option<String>,
    price_scale: Option<u32>,
    minmov: Option<u32>,
    has_volume: Option<bool>,
}

type Calendars = BTreeMap<String, (SessionSpec, Arc<TradingSession>)>;

/// Reads `symbols.json` in `data`; a folder without one has no entries.
pub(super) fn read(data: &Path) -> Result<Catalogue, SimulatorError> {
    let path = data.join("symbols.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SimulatorError::Read { path, source }),
    };
    let file: CatalogueFile =
        serde_json::from_str(&text).map_err(|source| SimulatorError::Catalogue { path, source })?;
    let mut calendars = Calendars::new();
    for (name, calendar) in file.calendars {
        let spec = session_spec(&name, &calendar)?;
        let session = TradingSession::parse(&spec)
            .map_err(|source| SimulatorError::Calendar { calendar: name.clone(), source })?;
        calendars.insert(name, (spec, Arc::new(session)));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut entries = Catalogue::new();
    for symbol in file.symbols {
        let (stem, entry) = entry(symbol, &calendars)?;
        if !seen.insert(entry.facts.symbol.clone()) {
            let twice = format!("`{}` is there twice", entry.facts.symbol);
            return Err(SimulatorError::Entry(twice));
        }
        entries.push((stem, entry));
    }
    Ok(entries)
}

fn entry(file: SymbolFile, calendars: &Calendars) -> Result<(String, Entry), SimulatorError> {
    let symbol = Symbol::parse(&file.symbol)?;
    let mut facts = default_facts(symbol);
    let stem =
        file.file.unwrap_or_else(|| format!("{}_{}", facts.symbol.exchange(), facts.symbol.code()));
    if let Some(calendar) = file.calendar {
        let unknown = || {
            let text = format!("`{}` names the unknown calendar `{calendar}`", facts.symbol);
            SimulatorError::Entry(text)
        };
        let (spec, session) = calendars.get(&calendar).ok_or_else(unknown)?;
        facts.spec = spec.clone();
        facts.session = Arc::clone(session);
    }
    if file.price_scale == Some(0) || file.minmov == Some(0) {
        let text = format!("`{}`: price_scale and minmov are 1 or more", facts.symbol);
        return Err(SimulatorError::Entry(text));
    }
    facts.description = file.description.unwrap_or(facts.description);
    facts.kind = file.kind.unwrap_or(facts.kind);
    facts.currency = file.currency.unwrap_or(facts.currency);
    facts.minmov = file.minmov.unwrap_or(facts.minmov);
    facts.has_volume = file.has_volume.unwrap_or(facts.has_volume);
    Ok((stem, Entry { facts, price_scale: file.price_scale }))
}

/// An instrument that only its files tell of: it never closes.
pub(super) fn default_facts(symbol: Symbol) -> Facts {
    let kind = if symbol.exchange() == "BINANCE" { "crypto" } else { "stock" };
    Facts {
        description: symbol.code().to_owned(),
        kind: kind.to_owned(),
        currency: "USD".to_owned(),
        spec: SessionSpec {
            timezone: "Etc/UTC".to_owned(),
            session: AROUND_THE_CLOCK.to_owned(),
            ..SessionSpec::default()
        },
        session: Arc::new(TradingSession::around_the_clock()),
        price_scale: 1,
        minmov: 1,
        has_volume: true,
        symbol,
    }
}

fn session_spec(name: &str, file: &CalendarFile) -> Result<SessionSpec, SimulatorError> {
    let compact = |dates: &[String]| -> Result<String, SimulatorError> {
        let mut compact = Vec::with_capacity(dates.len());
        for date in dates {
            let unreadable = |_| {
                SimulatorError::Entry(format!("calendar `{name}`: `{date}` is no date YYYY-MM-DD"))
            };
            let date: Date = date.parse().map_err(unreadable)?;
            compact.push(date.strftime("%Y%m%d").to_string());
        }
        Ok(compact.join(","))
    };
    let mut corrections = Vec::new();
    for (ranges, dates) in &file.early_closes {
        if !dates.is_empty() {
            corrections.push(format!("{ranges}:{}", compact(dates)?));
        }
    }
    Ok(SessionSpec {
        timezone: file.timezone.clone(),
        session: file.session.clone(),
        holidays: compact(&file.holidays)?,
        corrections: corrections.join(";"),
    })
}
