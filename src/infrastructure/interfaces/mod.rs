//! What a market-data provider must offer. It knows no provider.

mod directory;
mod history;
mod provider_error;
mod quotes;

pub use directory::{AssetClass, DirectoryQuery, SymbolDirectory, SymbolMatch};
pub use history::{
    HistoryDepth, HistoryEnd, HistoryPage, HistoryProvider, HistoryRequest, HistoryStream, RawBar,
};
pub use provider_error::{Phase, ProviderError};
pub use quotes::{FeedCommand, FeedEvent, FeedState, QuoteProvider, UpdateKind};
