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
mod http;
mod server;
mod stats;
mod talk;
mod wire;
mod world;

pub use config::{Endpoints, SimulatorConfig};
pub use error::SimulatorError;
pub use fault::{FaultKind, FaultSpec, FaultSpecError};
pub use server::{Simulator, SimulatorControl};
pub use stats::SimulatorStats;

use clock::WorldClock;
use fault_board::FaultBoard;
use stats::Stats;
use world::World;

/// What every connection of one simulator shares.
#[derive(Debug)]
struct Shared {
    world: World,
    clock: WorldClock,
    faults: FaultBoard,
    stats: Stats,
    settings: Settings,
}

/// What the configuration says about conversations.
#[derive(Clone, Copy, Debug)]
struct Settings {
    history_limit: Option<usize>,
    heartbeat: std::time::Duration,
    sessions_per_connection: u32,
    require_origin: bool,
}
