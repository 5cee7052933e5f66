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
    /// What the provider says.
    pub description: SymbolDescription,
    /// What a person set; it stands in front of what the provider says.
    pub custom: CustomFields,
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

/// What a person says of an instrument in place of the provider. Absent is what nobody set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomFields {
    /// Short name.
    pub name: Option<String>,
    /// Full name.
    pub description: Option<String>,
    /// Such as `stock`.
    pub asset_type: Option<String>,
}

/// What a person changes of an instrument. Absent stays as it is; an empty text is taken back, so
/// that the provider's stands again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolChange {
    /// Short name.
    pub name: Option<String>,
    /// Full name.
    pub description: Option<String>,
    /// Such as `stock`.
    pub asset_type: Option<String>,
    /// Whether it is followed.
    pub active: Option<bool>,
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

impl SymbolInfo {
    /// Its short name, where anybody says.
    pub fn name(&self) -> Option<&str> {
        self.custom.name.as_deref().or(self.description.name.as_deref())
    }

    /// Its full name, where anybody says.
    pub fn full_name(&self) -> Option<&str> {
        self.custom.description.as_deref().or(self.description.description.as_deref())
    }

    /// Its type, where anybody says.
    pub fn asset_type(&self) -> Option<&str> {
        self.custom.asset_type.as_deref().or(self.description.asset_type.as_deref())
    }

    /// Whether `change` would change anything.
    pub fn is_changed_by(&self, change: &SymbolChange) -> bool {
        let differs = |custom: &Option<String>, changed: &Option<String>| {
            changed.as_deref().is_some_and(|text| custom.as_deref().unwrap_or_default() != text)
        };
        differs(&self.custom.name, &change.name)
            || differs(&self.custom.description, &change.description)
            || differs(&self.custom.asset_type, &change.asset_type)
            || change.active.is_some_and(|active| active != self.active)
    }
}

impl SymbolAggregate {
    /// A new instrument, or `stored` as it is kept.
    pub fn new(symbol: &Symbol, stored: Option<SymbolInfo>, at: Timestamp) -> Self {
        let info = stored.unwrap_or_else(|| SymbolInfo {
            symbol: symbol.clone(),
            description: SymbolDescription::default(),
            custom: CustomFields::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn said(name: &str) -> SymbolDescription {
        let name = Some(name.to_owned());
        SymbolDescription { name, currency: Some("USD".to_owned()), ..Default::default() }
    }

    #[test]
    fn what_the_provider_says_is_kept_current_behind_what_a_person_set() {
        let symbol = Symbol::parse("NYSE:IBM").unwrap();
        let (mut info, _) = SymbolAggregate::new(&symbol, None, at(1)).observe(&said("old"), at(1));
        info.custom.name = Some("mine".to_owned());
        let stored = Some(info);
        let (info, changed) =
            SymbolAggregate::new(&symbol, stored, at(2)).observe(&said("new"), at(2));
        assert!(changed);
        assert_eq!((info.name(), info.description.name.as_deref()), (Some("mine"), Some("new")));
        assert_eq!((info.full_name(), info.updated_at), (None, at(2)));
        let (info, changed) =
            SymbolAggregate::new(&symbol, Some(info), at(3)).observe(&said("new"), at(3));
        assert!(!changed && info.updated_at == at(2));
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let symbol = Symbol::parse("NYSE:IBM").unwrap();
        let (mut info, _) = SymbolAggregate::new(&symbol, None, at(1)).observe(&said("IBM"), at(1));
        info.custom.name = Some("mine".to_owned());
        let named = |name: &str| SymbolChange { name: Some(name.to_owned()), ..Default::default() };
        assert!(!info.is_changed_by(&SymbolChange::default()));
        assert!(!info.is_changed_by(&named("mine")));
        assert!(info.is_changed_by(&named("other")));
        assert!(info.is_changed_by(&named("")));
        let description = Some(String::new());
        assert!(!info.is_changed_by(&SymbolChange { description, ..Default::default() }));
        assert!(info.is_changed_by(&SymbolChange { active: Some(false), ..Default::default() }));
    }
}
