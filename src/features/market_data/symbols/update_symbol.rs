//! Say something of an instrument in place of the provider.

use jiff::Timestamp;

use super::SymbolError;
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Symbol;
use crate::domain::symbol::{SymbolChange, SymbolInfo};
use crate::infrastructure::persistence::Database;

/// Make `change` to what is known of `symbol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateSymbol {
    /// Which instrument.
    pub symbol: Symbol,
    /// What a person says of it.
    pub change: SymbolChange,
}

impl Request for UpdateSymbol {
    /// The instrument as it is then.
    type Output = SymbolInfo;
    type Error = SymbolError;
    const NAME: &'static str = "market_data.update_symbol";
}

pub(super) struct UpdateSymbolHandler {
    pub(super) database: Database,
}

impl Handler<UpdateSymbol> for UpdateSymbolHandler {
    async fn handle(&self, command: UpdateSymbol) -> Result<SymbolInfo, SymbolError> {
        let UpdateSymbol { symbol, change } = command;
        let symbols = self.database.symbols();
        let known = symbols.get(&symbol).await?;
        let info = known.ok_or_else(|| SymbolError::Unknown(symbol.clone()))?;
        if !info.is_changed_by(&change) {
            return Ok(info);
        }
        let changed = symbols.customise(&symbol, &change, Timestamp::now()).await?;
        changed.ok_or(SymbolError::Unknown(symbol))
    }
}
