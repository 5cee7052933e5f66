//! Look symbols up in the provider's directory.

use std::sync::Arc;

use crate::common::mediator::{Handler, Request};
use crate::infrastructure::interfaces::{
    DirectoryQuery, ProviderError, SymbolDirectory, SymbolMatch,
};

/// Which symbols does the provider have that fit?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchSymbols(pub DirectoryQuery);

/// Symbols that fit, the best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolMatches(pub Vec<SymbolMatch>);

impl Request for SearchSymbols {
    type Output = SymbolMatches;
    type Error = ProviderError;
    const NAME: &'static str = "market_data.search_symbols";
}

pub(super) struct SearchSymbolsHandler {
    pub(super) directory: Arc<dyn SymbolDirectory>,
}

impl Handler<SearchSymbols> for SearchSymbolsHandler {
    async fn handle(&self, query: SearchSymbols) -> Result<SymbolMatches, ProviderError> {
        self.directory.search(query.0).await.map(SymbolMatches)
    }
}
