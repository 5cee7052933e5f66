//! Copies a symbol's history from the provider into the database.

mod cancel_sync;
mod copy;
mod journal;
mod meter;
mod progress;
mod recovery;
mod run;
mod start_sync;
mod sync_error;
mod sync_service;
mod sync_symbol;
mod sync_symbols;
mod sync_ticket;
mod watch_sync;
mod wire;

pub use cancel_sync::CancelSync;
pub use progress::{SyncProgress, SyncReport};
pub use start_sync::StartSync;
pub use sync_error::SyncError;
pub use sync_service::{SyncService, SyncServiceParts};
pub use sync_symbol::SyncSymbol;
pub use sync_symbols::{NotASymbol, SymbolStep, SymbolSteps, SyncSymbols};
pub use sync_ticket::SyncTicket;
pub use watch_sync::{SyncStep, SyncSteps, WatchSync};

use self::cancel_sync::CancelSyncHandler;
use self::start_sync::StartSyncHandler;
use self::sync_symbol::SyncSymbolHandler;
use self::sync_symbols::SyncSymbolsHandler;
use self::watch_sync::WatchSyncHandler;
use crate::common::mediator::MediatorBuilder;

/// Adds this slice's handlers.
pub fn register(mediator: MediatorBuilder, service: &SyncService) -> MediatorBuilder {
    let service = || service.clone();
    mediator
        .register(SyncSymbolHandler { service: service() })
        .register(StartSyncHandler { service: service() })
        .register(SyncSymbolsHandler { service: service() })
        .register(WatchSyncHandler { service: service() })
        .register(CancelSyncHandler { service: service() })
}
