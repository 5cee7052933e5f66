//! Bars of the past.

use std::fmt;

use futures::stream::BoxStream;
use jiff::Timestamp;

use super::ProviderError;
use crate::domain::shared::Series;
use crate::domain::symbol::SymbolDescription;

/// How far back a request reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryDepth {
    /// The newest bars, this many; fewer where the provider has fewer.
    Newest(u32),
    /// All that the provider has.
    Full,
}

/// Asks for the bars of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Of which symbol, at which interval.
    pub series: Series,
    /// How many.
    pub depth: HistoryDepth,
}

/// A bar as the provider wrote it; nothing is checked. A missing price is not a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawBar {
    /// When it opens, whole milliseconds.
    pub open_time: Timestamp,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Absent where the instrument has none.
    pub volume: Option<f64>,
}

/// Why a provider sends nothing older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryEnd {
    /// The oldest bar was reached.
    End,
    /// The provider's limit was reached; older bars exist.
    Limit,
}

/// A stretch of history: bars in order of time, all older than those of the pages before.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// The bars; a bar that was sent before is not repeated. None on the first page where the
    /// provider knows the instrument and has no bars of it.
    pub bars: Vec<RawBar>,
    /// The provider's clock in the reply: decides which bars are finished.
    pub server_time: Timestamp,
    /// What the provider says of the instrument; on the first page.
    pub symbol: Option<SymbolDescription>,
    /// Set on the last page, where the provider said why it is.
    pub end: Option<HistoryEnd>,
}

/// Pages, the newest first. Ends after the first error. Dropping it ends the request upstream.
pub type HistoryStream = BoxStream<'static, Result<HistoryPage, ProviderError>>;

/// Serves history. Every wait inside has a deadline.
pub trait HistoryProvider: fmt::Debug + Send + Sync {
    /// The provider's name in answers and logs, such as `tradingview`.
    fn name(&self) -> &'static str;

    /// Fetches page by page; nothing is asked for before the stream is polled, nor the next page
    /// before the one at hand was taken.
    fn history(&self, request: HistoryRequest) -> HistoryStream;
}
