//! The services of `pocketquant.v1`: one line an RPC.

mod market_data;
mod system;

pub use market_data::MarketDataGrpc;
pub use system::SystemGrpc;
