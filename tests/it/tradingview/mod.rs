//! The TradingView client against a server that says, line by line, what each test tells it.

mod auth;
mod connection;
mod faults;
mod history;
mod quote_script;
mod quotes;
mod reconnect;
mod script;
mod search;
