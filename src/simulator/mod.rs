//! A local server that speaks the TradingView protocol from a folder of files.
