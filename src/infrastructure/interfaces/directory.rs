//! Which symbols there are.

use std::fmt;

use futures::future::BoxFuture;

use super::ProviderError;
use crate::domain::shared::Symbol;

/// What kind of instrument is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AssetClass {
    /// Shares.
    Stock,
    /// Funds, exchange-traded ones too.
    Fund,
    /// Futures.
    Futures,
    /// Pairs of currencies.
    Forex,
    /// Crypto currencies.
    Crypto,
    /// Indices.
    Index,
    /// Bonds.
    Bond,
    /// Economic data.
    Economic,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryQuery {
    /// A part of a code or of a name.
    pub text: String,
    /// Only on this exchange.
    pub exchange: Option<String>,
    /// Only of this kind.
    pub class: Option<AssetClass>,
    /// Matches at most.
    pub limit: u32,
}

/// A symbol that fits. What the provider does not say is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolMatch {
    /// Which symbol: one that history and quotes can be asked for.
    pub symbol: Symbol,
    /// What it is, in words.
    pub description: String,
    /// Such as `stock`, in the provider's words.
    pub asset_type: String,
    /// What its prices are in.
    pub currency: String,
    /// Where it is traded, in words.
    pub exchange_name: String,
    /// ISO 3166 code of the country that it belongs to.
    pub country: String,
}

/// Looks symbols up.
pub trait SymbolDirectory: fmt::Debug + Send + Sync {
    /// Those that fit `query`, the best first. Every wait inside has a deadline. Answers may be a
    /// few minutes old.
    fn search(
        &self,
        query: DirectoryQuery,
    ) -> BoxFuture<'_, Result<Vec<SymbolMatch>, ProviderError>>;
}

impl AssetClass {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Stock,
        Self::Fund,
        Self::Futures,
        Self::Forex,
        Self::Crypto,
        Self::Index,
        Self::Bond,
        Self::Economic,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Fund => "fund",
            Self::Futures => "futures",
            Self::Forex => "forex",
            Self::Crypto => "crypto",
            Self::Index => "index",
            Self::Bond => "bond",
            Self::Economic => "economic",
        }
    }

    /// The class of this name, in the singular or the plural, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let is_it =
            |class: &Self| name == class.as_str() || name.strip_suffix('s') == Some(class.as_str());
        Self::ALL.into_iter().find(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_by_their_names() {
        for class in AssetClass::ALL {
            assert_eq!(AssetClass::named(class.as_str()), Some(class));
        }
        assert_eq!(AssetClass::named("Stocks"), Some(AssetClass::Stock));
        assert_eq!(AssetClass::named("future"), None);
        assert_eq!(AssetClass::named(""), None);
    }
}
