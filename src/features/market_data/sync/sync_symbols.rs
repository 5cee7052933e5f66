//! Sync many symbols, a few at a time, and tell how each goes.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, stream::SelectAll};
use tokio::sync::Semaphore;

use super::{SyncError, SyncProgress, SyncService};
use crate::common::error::InvalidFields;
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::infrastructure::interfaces::HistoryDepth;

/// Symbols of one call that are synced at the same time.
const AT_ONCE: usize = 4;

/// Copy a series of each symbol.
#[derive(Clone, Debug)]
pub struct SyncSymbols {
    /// Which symbols; one that is none is told as an error of its own.
    pub symbols: Vec<Result<Symbol, NotASymbol>>,
    /// At which interval.
    pub interval: Interval,
    /// How far back.
    pub depth: HistoryDepth,
}

/// A text that is no symbol.
#[derive(Clone, Debug)]
pub struct NotASymbol {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: InvalidFields,
    /// What was asked for.
    pub interval: Interval,
}

/// How one symbol of the call goes.
#[derive(Clone, Debug)]
pub enum SymbolStep {
    /// A step of its sync.
    Sync(SyncProgress),
    /// It is no symbol.
    Invalid(NotASymbol),
    /// Its sync could not be started.
    Refused(Series, SyncError),
}

/// The steps of all symbols, as they come; ends when the last sync has.
pub type SymbolSteps = BoxStream<'static, Result<SymbolStep, SyncError>>;

impl Request for SyncSymbols {
    type Output = SymbolSteps;
    type Error = SyncError;
    const NAME: &'static str = "market_data.sync_symbols";
}

pub(super) struct SyncSymbolsHandler {
    pub(super) service: SyncService,
}

impl Handler<SyncSymbols> for SyncSymbolsHandler {
    async fn handle(&self, command: SyncSymbols) -> Result<SymbolSteps, SyncError> {
        let SyncSymbols { symbols, interval, depth } = command;
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let one = |symbol: Result<Symbol, NotASymbol>| {
            let series = match symbol {
                Ok(symbol) => Series::new(symbol, interval),
                Err(invalid) => return only(SymbolStep::Invalid(invalid)),
            };
            match self.service.start_in_turn(series.clone(), depth, &turns) {
                Ok(ticket) => ticket.steps().map(|step| Ok(SymbolStep::Sync(step))).boxed(),
                Err(error) => only(SymbolStep::Refused(series, error)),
            }
        };
        // All are started now: they go on when the caller goes away.
        let steps: SelectAll<SymbolSteps> = symbols.into_iter().map(one).collect();
        Ok(steps.boxed())
    }
}

fn only(step: SymbolStep) -> SymbolSteps {
    stream::once(async { Ok(step) }).boxed()
}
