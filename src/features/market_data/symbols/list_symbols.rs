//! List the registry.

use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Symbol;
use crate::domain::symbol::SymbolInfo;
use crate::features::market_data::ReadError;
use crate::infrastructure::persistence::{Database, SymbolFilter};

/// Which instruments does `filter` let through?
#[derive(Clone, Debug, PartialEq)]
pub struct ListSymbols {
    /// Which instruments.
    pub filter: SymbolFilter,
    /// Rows a page.
    pub page_size: u32,
    /// The last symbol of the page before.
    pub after: Option<Symbol>,
}

/// A page of the registry, by exchange and code.
#[derive(Clone, Debug, PartialEq)]
pub struct SymbolPage {
    /// What was asked.
    pub query: ListSymbols,
    /// The instruments.
    pub symbols: Vec<SymbolInfo>,
    /// Whether there are more.
    pub more: bool,
}

impl Request for ListSymbols {
    type Output = SymbolPage;
    type Error = ReadError;
    const NAME: &'static str = "market_data.list_symbols";
}

pub(super) struct ListSymbolsHandler {
    pub(super) database: Database,
}

impl Handler<ListSymbols> for ListSymbolsHandler {
    async fn handle(&self, query: ListSymbols) -> Result<SymbolPage, ReadError> {
        let limit = query.page_size.saturating_add(1);
        let registry = self.database.symbols();
        let mut symbols = registry.list(&query.filter, query.after.as_ref(), limit).await?;
        let asked = usize::try_from(query.page_size).unwrap_or(usize::MAX);
        let more = symbols.len() > asked;
        symbols.truncate(asked);
        Ok(SymbolPage { query, symbols, more })
    }
}
