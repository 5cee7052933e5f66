//! A server on loopback that speaks the provider's side of the TradingView protocol from a folder
//! of files: for the demo, for tests, and for any other client of that protocol.
//!
//! It must be right where TradingView is, not where our own client would like it: it has its own
//! encoder and knows nothing of `infrastructure`.

mod clock;
mod config;
mod error;
mod fault;
mod fault_board;
mod fault_kind;
mod http;
mod replay;
mod server;
mod stats;
mod talk;
mod wire;
mod world;

pub use config::{Endpoints, SimulatorConfig};
pub use error::SimulatorError;
pub use fault::{FaultSpec, FaultSpecError};
pub use fault_kind::FaultKind;
pub use replay::{Pace, PaceError, Rebase, RebaseError, ReplayConfig, TickError};
pub use server::{Simulator, SimulatorControl};
pub use stats::{ReplayStats, SimulatorStats};

use clock::WorldClock;
use fault_board::FaultBoard;
use jiff::Timestamp;
use serde_json::{Map, Value};
use stats::Stats;
use tokio::time::Instant;
use world::{Instrument, World};

/// What every connection of one simulator shares.
#[derive(Debug)]
struct Shared {
    world: World,
    clock: WorldClock,
    faults: FaultBoard,
    stats: Stats,
    settings: Settings,
}

impl Shared {
    /// The server's time where it speaks of `instrument`: that of its replay, or the world's.
    fn time_of(&self, instrument: Option<&Instrument>) -> Timestamp {
        let own = instrument.and_then(Instrument::time);
        own.map_or_else(|| self.clock.now(), |time| self.clock.told(time))
    }

    /// Everything that is counted.
    fn stats(&self) -> SimulatorStats {
        let now = Instant::now();
        let replays = self.world.instruments().filter_map(|instrument| instrument.replay());
        let pulse = self.world.pulse();
        SimulatorStats {
            conflations: pulse.conflations.get(),
            lost_readers: pulse.lost_readers.get(),
            replays: replays.map(|replay| replay.stats(now)).collect(),
            ..self.stats.counted()
        }
    }
}

/// What the configuration says about conversations.
#[derive(Clone, Copy, Debug)]
struct Settings {
    history_limit: Option<usize>,
    heartbeat: std::time::Duration,
    sessions_per_connection: u32,
    require_origin: bool,
}

impl Shared {
    /// Adds a trade to the replay of `symbol`; its time, and the quote after it.
    fn inject(
        &self,
        symbol: &str,
        time: Option<Timestamp>,
        price: f64,
        size: Option<f64>,
    ) -> Result<(Timestamp, replay::Quote), TickError> {
        let instrument = self.world.find(symbol).ok_or(TickError::UnknownSymbol)?;
        let replay = instrument.replay().ok_or(TickError::NotReplayed)?;
        replay.inject(time, price, size, Instant::now())
    }

    /// Tells all who have subscribed to `symbol` of `fields`, which are no part of its quote.
    fn invent(&self, symbol: &str, fields: Map<String, Value>) -> Result<(), TickError> {
        let instrument = self.world.find(symbol).ok_or(TickError::UnknownSymbol)?;
        instrument.replay().ok_or(TickError::NotReplayed)?.invent(fields);
        Ok(())
    }
}
