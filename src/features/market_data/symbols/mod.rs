//! The registry of instruments, and the provider's directory.

mod delete_symbol;
mod get_symbol;
mod list_symbols;
mod search_symbols;
mod symbol_error;
mod update_symbol;
mod wire;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use delete_symbol::DeleteSymbol;
pub use get_symbol::GetSymbol;
pub use list_symbols::{ListSymbols, SymbolPage};
pub use search_symbols::{SearchSymbols, SymbolMatches};
pub use symbol_error::SymbolError;
pub use update_symbol::UpdateSymbol;

use self::delete_symbol::DeleteSymbolHandler;
use self::get_symbol::GetSymbolHandler;
use self::list_symbols::ListSymbolsHandler;
use self::search_symbols::SearchSymbolsHandler;
use self::update_symbol::UpdateSymbolHandler;
use super::quote::QuoteService;
use super::sync::SyncService;
use super::{CoverageLedger, LiveSeries, Sessions};
use crate::common::mediator::MediatorBuilder;
use crate::infrastructure::interfaces::SymbolDirectory;
use crate::infrastructure::persistence::{Database, SeriesCache};

/// What this slice works with.
#[derive(Debug)]
pub struct SymbolParts {
    /// Where instruments and their bars are kept.
    pub database: Database,
    /// Where answers about bars are kept.
    pub cache: SeriesCache,
    /// When instruments trade.
    pub sessions: Sessions,
    /// What the feed tracks.
    pub live: LiveSeries,
    /// Who must not sync what is being deleted.
    pub syncs: SyncService,
    /// What is known of the time without bars.
    pub ledger: CoverageLedger,
    /// Where the provider's symbols are looked up.
    pub directory: Arc<dyn SymbolDirectory>,
    /// When to stop.
    pub stopping: CancellationToken,
}

/// Adds this slice's handlers. `quotes` must not follow what was deleted.
pub fn register(
    mediator: MediatorBuilder,
    parts: SymbolParts,
    quotes: &QuoteService,
) -> MediatorBuilder {
    let SymbolParts { database, cache, sessions, live, .. } = parts;
    let SymbolParts { syncs, ledger, directory, stopping, .. } = parts;
    let deletion = DeleteSymbolHandler {
        database: database.clone(),
        cache,
        sessions,
        live,
        syncs,
        ledger,
        quotes: quotes.clone(),
        stopping,
    };
    mediator
        .register(GetSymbolHandler { database: database.clone() })
        .register(ListSymbolsHandler { database: database.clone() })
        .register(SearchSymbolsHandler { directory })
        .register(UpdateSymbolHandler { database })
        .register(deletion)
}
