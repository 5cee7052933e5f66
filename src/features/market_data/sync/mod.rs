//! Copies a symbol's history from the provider into the database.

mod progress;
mod run;
mod sync_error;
mod sync_service;
mod sync_symbol;
mod wire;

pub use progress::{SyncProgress, SyncReport};
pub use sync_error::SyncError;
pub use sync_service::{SyncService, SyncTicket};
pub use sync_symbol::SyncSymbol;

use self::sync_symbol::SyncSymbolHandler;
use crate::common::mediator::MediatorBuilder;

/// Adds this slice's handlers.
pub fn register(mediator: MediatorBuilder, service: &SyncService) -> MediatorBuilder {
    mediator.register(SyncSymbolHandler { service: service.clone() })
}
