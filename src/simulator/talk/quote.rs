//! Quote sessions. In a world that stands still a quote is one snapshot.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Dialogue;
use super::delivery::send_garbage;
use super::resolve::name_in;
use super::snapshot::quote_fields;
use crate::domain::shared::Symbol;
use crate::simulator::FaultKind;
use crate::simulator::wire::{Answer, Request};

/// Symbols in one session.
const MAX_SYMBOLS: usize = 10_000;

/// A quote session: which fields of which symbols.
#[derive(Debug, Default)]
pub(super) struct QuoteSession {
    /// None is all that there are.
    fields: Option<HashSet<String>>,
    symbols: HashSet<String>,
}

impl Dialogue {
    pub(super) fn create_quote_session(&mut self, request: &Request, now: Instant) {
        let Some(session) = request.text(0).filter(|session| !session.is_empty()) else {
            return self.critical(now, request, "invalid_parameters");
        };
        if self.quotes.contains_key(session) {
            return self.critical(now, request, "duplicate id");
        }
        if self.opens_session(request, now) {
            self.shared.stats.quote_sessions.add(1);
            self.quotes.insert(session.to_owned(), QuoteSession::default());
        }
    }

    pub(super) fn delete_quote_session(&mut self, request: &Request) {
        if let Some(session) = request.text(0) {
            self.quotes.remove(session);
        }
    }

    /// Symbols that are there already are told again, with what was not asked for before.
    pub(super) fn set_quote_fields(&mut self, request: &Request, now: Instant) {
        let Some(session) = request.text(0) else { return };
        let Some(quotes) = self.quotes.get_mut(session) else { return };
        let wanted: HashSet<String> = request.texts().map(str::to_owned).collect();
        let before = quotes.fields.replace(wanted);
        let known: Vec<String> = quotes.symbols.iter().cloned().collect();
        if let Some(before) = before {
            for name in known {
                let mut fields = self.fields_of(session, &name);
                fields.retain(|field, _| !before.contains(field));
                self.send_quote(now, session, &name, &fields);
            }
        }
    }

    pub(super) fn remove_quote_symbols(&mut self, request: &Request) {
        if let Some(quotes) = request.text(0).and_then(|session| self.quotes.get_mut(session)) {
            for name in request.texts() {
                quotes.symbols.remove(name);
            }
        }
    }

    pub(super) fn add_quote_symbols(&mut self, request: &Request, now: Instant) {
        let Some(session) = request.text(0) else { return };
        let Some(quotes) = self.quotes.get_mut(session) else { return };
        // Once allowed, no longer: it ends the session, and nothing else (since February 2024).
        if request.parameters.iter().any(Value::is_object) {
            self.quotes.remove(session);
            let parameters = (session, "invalid_parameters", "quote_add_symbols");
            return self.outbox.send(now, Answer::new("critical_error", parameters).text());
        }
        let names = request.texts().filter(|name| !name.is_empty());
        let names: Vec<&str> = names.filter(|name| !quotes.symbols.contains(*name)).collect();
        for name in names {
            let Some(quotes) = self.quotes.get_mut(session) else { return };
            if quotes.symbols.len() >= MAX_SYMBOLS {
                return self.critical(now, request, "invalid_parameters");
            }
            if quotes.symbols.insert(name.to_owned()) {
                self.tell_quote(session, name, now);
            }
        }
    }

    fn tell_quote(&mut self, session: &str, name: &str, now: Instant) {
        let symbol = self.symbol_named(name);
        let Some(due) = self.gate(symbol.as_ref(), now) else { return };
        let faults = &self.shared.faults;
        if faults.is_on(FaultKind::Garbage, symbol.as_ref()) {
            return send_garbage(&mut self.outbox, due);
        }
        let missing = symbol.is_none() || faults.is_on(FaultKind::InvalidSymbol, symbol.as_ref());
        let denied = faults.find(FaultKind::PermissionDenied, symbol.as_ref());
        let silent_end = faults.is_on(FaultKind::NoCompleted, symbol.as_ref());
        match denied {
            Some(fault) if !missing => {
                let group = fault.arg().unwrap_or("economics_paid");
                let quote = json!({"n": name, "s": "permission_denied", "errmsg": "Permission denied", "v": {"alternative": group}});
                self.outbox.send(due, Answer::new("qsd", (session, quote)).text());
            }
            Some(_) | None if missing => {
                let quote = json!({"n": name, "s": "error", "errmsg": "no_such_symbol", "v": {}});
                self.outbox.send(due, Answer::new("qsd", (session, quote)).text());
            }
            Some(_) | None => {
                let fields = self.fields_of(session, name);
                self.send_quote(due, session, name, &fields);
            }
        }
        if !silent_end {
            self.outbox.send(due, Answer::new("quote_completed", (session, name)).text());
        }
    }

    fn symbol_named(&self, name: &str) -> Option<Symbol> {
        let instrument = self.shared.world.find(&name_in(name)?)?;
        Some(instrument.facts().symbol.clone())
    }

    /// What the session wants to know of `name`.
    fn fields_of(&self, session: &str, name: &str) -> Map<String, Value> {
        let instrument = name_in(name).and_then(|name| self.shared.world.find(&name));
        let Some(instrument) = instrument else { return Map::new() };
        let symbol = &instrument.facts().symbol;
        let has_volume = instrument.facts().has_volume
            && !self.shared.faults.is_on(FaultKind::NullVolume, Some(symbol))
            && !self.shared.faults.is_on(FaultKind::NoVolume, Some(symbol));
        let mut fields = quote_fields(&instrument, has_volume);
        let wanted = self.quotes.get(session).and_then(|quotes| quotes.fields.as_ref());
        if let Some(wanted) = wanted {
            fields.retain(|field, _| wanted.contains(field));
        }
        fields
    }

    /// A snapshot comes in two parts, where it has that many fields.
    fn send_quote(&mut self, due: Instant, session: &str, name: &str, fields: &Map<String, Value>) {
        let half = fields.len().div_ceil(2).max(1);
        let fields: Vec<(&String, &Value)> = fields.iter().collect();
        for part in fields.chunks(half) {
            let values: Map<String, Value> =
                part.iter().map(|(key, value)| ((*key).clone(), (*value).clone())).collect();
            let quote = json!({"n": name, "s": "ok", "v": values});
            self.outbox.send(due, Answer::new("qsd", (session, quote)).text());
        }
    }
}
