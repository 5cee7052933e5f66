//! What is known about an instrument.

use std::sync::Arc;

use jiff::Timestamp;

use super::{SessionSpec, TradingSession};
use crate::domain::shared::Symbol;

/// An instrument in the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct SymbolInfo {
    /// Which instrument.
    pub symbol: Symbol,
    /// What a person set, or the provider says.
    pub description: SymbolDescription,
    /// Whether the service follows it.
    pub active: bool,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What describes an instrument. Absent means that nobody said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SymbolDescription {
    /// Short name.
    pub name: Option<String>,
    /// Full name, in any script.
    pub description: Option<String>,
    /// Such as `stock`, `index`, `futures`, `crypto`.
    pub asset_type: Option<String>,
    /// ISO 4217 code, or a crypto currency's.
    pub currency: Option<String>,
    /// When it trades.
    pub session: Option<SessionSpec>,
    /// Price units in one: a tick is a whole number of `1 / price_scale`.
    pub price_scale: Option<u32>,
}

/// Keeps an instrument's facts current.
#[derive(Clone, Debug)]
pub struct SymbolAggregate {
    info: SymbolInfo,
}

impl SymbolInfo {
    /// The trading session, and whether it is known. Where it is not, or cannot be read, bars are
    /// cut around the clock in UTC.
    pub fn trading_session(&self) -> (Arc<TradingSession>, bool) {
        let known = self.description.session.as_ref().map(TradingSession::parse);
        match known {
            Some(Ok(session)) => (Arc::new(session), true),
            Some(Err(_)) | None => (Arc::new(TradingSession::around_the_clock()), false),
        }
    }
}

impl SymbolAggregate {
    /// A new instrument, or `stored` as it is kept.
    pub fn new(symbol: &Symbol, stored: Option<SymbolInfo>, at: Timestamp) -> Self {
        let info = stored.unwrap_or_else(|| SymbolInfo {
            symbol: symbol.clone(),
            description: SymbolDescription::default(),
            active: true,
            created_at: at,
            updated_at: at,
        });
        Self { info }
    }

    /// Takes over what the provider says at `at`; what it does not say stays. Answers the
    /// instrument as it is now, where anything changed.
    #[must_use]
    pub fn observe(mut self, said: &SymbolDescription, at: Timestamp) -> (SymbolInfo, bool) {
        let known = &self.info.description;
        let merged = SymbolDescription {
            name: said.name.clone().or_else(|| known.name.clone()),
            description: said.description.clone().or_else(|| known.description.clone()),
            asset_type: said.asset_type.clone().or_else(|| known.asset_type.clone()),
            currency: said.currency.clone().or_else(|| known.currency.clone()),
            session: said.session.clone().or_else(|| known.session.clone()),
            price_scale: said.price_scale.or(known.price_scale),
        };
        let changed = merged != self.info.description || self.info.created_at == at;
        if changed {
            self.info.description = merged;
            self.info.updated_at = at;
        }
        (self.info, changed)
    }
}
