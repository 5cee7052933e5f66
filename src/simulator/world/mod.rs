//! What exists in the simulated world: instruments with their bars, read from a folder.

mod aggregation;
mod bars_file;
mod catalogue;
mod folder;
mod instrument;
mod moving;
mod trades_file;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

pub(super) use aggregation::rolled;
pub(super) use instrument::{Facts, History, Instrument};

use super::SimulatorError;
use super::replay::{Pulse, ReplayConfig};
use crate::domain::shared::Symbol;

/// A bar as the files have it. Its numbers are finite; whether they make sense is for the client
/// to find out, as it is with a real provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct WorldBar {
    pub(super) open_time: Timestamp,
    pub(super) open: f64,
    pub(super) high: f64,
    pub(super) low: f64,
    pub(super) close: f64,
    pub(super) volume: Option<f64>,
}

/// Every instrument of the folder.
#[derive(Debug)]
pub(super) struct World {
    instruments: BTreeMap<Symbol, Arc<Instrument>>,
    pulse: Arc<Pulse>,
}

impl World {
    /// Reads the folder `data`; with `now`, nothing that happened later exists in what stands
    /// still. Blocks on files.
    pub(super) fn load(
        data: &Path,
        now: Option<Timestamp>,
        replay: Option<ReplayConfig>,
    ) -> Result<Self, SimulatorError> {
        let mut instruments = BTreeMap::new();
        let pulse = Arc::new(Pulse::default());
        for instrument in folder::read(data, now, replay.map(|config| (config, &pulse)))? {
            instruments.insert(instrument.facts().symbol.clone(), Arc::new(instrument));
        }
        if instruments.is_empty() {
            return Err(SimulatorError::NoBars(data.to_owned()));
        }
        Ok(Self { instruments, pulse })
    }

    /// The instrument that a client calls `name`: `EXCHANGE:CODE`, or a code alone, in any case.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Instrument>> {
        if let Ok(symbol) = Symbol::parse(name) {
            return self.instruments.get(&symbol).map(Arc::clone);
        }
        let by_code = |instrument: &&Arc<Instrument>| {
            instrument.facts().symbol.code().eq_ignore_ascii_case(name)
        };
        self.instruments.values().find(by_code).map(Arc::clone)
    }

    /// What its markets tell when they move.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// All of them, by symbol.
    pub(super) fn instruments(&self) -> impl Iterator<Item = &Arc<Instrument>> {
        self.instruments.values()
    }
}
