//! Look an instrument up in the registry.

use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Symbol;
use crate::domain::symbol::SymbolInfo;
use crate::features::market_data::ReadError;
use crate::infrastructure::persistence::Database;

/// What is known of `symbol`?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetSymbol {
    /// Which instrument.
    pub symbol: Symbol,
}

impl Request for GetSymbol {
    type Output = SymbolInfo;
    type Error = ReadError;
    const NAME: &'static str = "market_data.get_symbol";
}

pub(super) struct GetSymbolHandler {
    pub(super) database: Database,
}

impl Handler<GetSymbol> for GetSymbolHandler {
    async fn handle(&self, query: GetSymbol) -> Result<SymbolInfo, ReadError> {
        let info = self.database.symbols().get(&query.symbol).await?;
        info.ok_or(ReadError::SymbolUnknown(query.symbol))
    }
}
