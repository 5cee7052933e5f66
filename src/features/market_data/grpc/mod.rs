//! The services of `pocketquant.v1`: one line an RPC.

mod market_data;
mod quote_stream;
mod system;

pub use market_data::MarketDataGrpc;
pub use quote_stream::QuoteStreamGrpc;
pub use system::SystemGrpc;
