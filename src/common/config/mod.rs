//! The typed settings of the process, from the environment and `.env`.
//!
//! One table ([`SETTINGS`]) declares each setting; parsing, `serve --help`, the README's table
//! and `.env.example` all follow it. Every mistake is reported, all at once.

mod error;
mod jobs;
mod parse;
mod protection;
mod redact;
mod settings;
mod source;
mod table;
mod tradingview;

pub use error::{ConfigError, Mistake};
pub use jobs::{JobSettings, JobsSettings};
pub use protection::{ProtectionSettings, TlsSettings};
pub use redact::redact_url;
pub use settings::{
    BarSettings, Environment, FeedClock, FeedSettings, LogSettings, MongoDbSettings, SecretUrl,
    Settings, TelemetrySettings,
};
pub use source::{EnvFile, UnknownName};
pub use table::{SETTINGS, Sensitivity, Setting, help_text, readme_table};
pub use tradingview::{TradingViewAuth, TradingViewSettings};

#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "../../../tests/fuzz/settings.rs"]
mod fuzz;
