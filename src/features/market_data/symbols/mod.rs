//! The registry of instruments.

mod get_symbol;
mod list_symbols;
mod wire;

pub use get_symbol::GetSymbol;
pub use list_symbols::{ListSymbols, SymbolPage};

use self::get_symbol::GetSymbolHandler;
use self::list_symbols::ListSymbolsHandler;
use crate::common::mediator::MediatorBuilder;
use crate::infrastructure::persistence::Database;

/// Adds this slice's handlers.
pub fn register(mediator: MediatorBuilder, database: &Database) -> MediatorBuilder {
    mediator
        .register(GetSymbolHandler { database: database.clone() })
        .register(ListSymbolsHandler { database: database.clone() })
}
