//! The TradingView data protocol, client side.
