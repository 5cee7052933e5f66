//! Quote sessions. A quote is a snapshot first, and updates after it where its market moves.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Dialogue;
use super::delivery::send_garbage;
use super::live::LiveQuote;
use super::live_fields::Wanted;
use super::resolve::name_in;
use super::snapshot::{moving_fields, quote_fields};
use crate::domain::shared::Symbol;
use crate::simulator::FaultKind;
use crate::simulator::wire::{Answer, Request};

/// Symbols in one session.
const MAX_SYMBOLS: usize = 10_000;

/// What changes with every trade; it always comes together.
const TRADE_FIELDS: [&str; 6] = ["lp", "lp_time", "volume", "ch", "chp", "current_session"];

/// A quote session: which fields of which symbols.
#[derive(Debug, Default)]
pub(super) struct QuoteSession {
    /// None is all that there are.
    fields: Option<HashSet<String>>,
    /// By the name that the client uses; with what moves.
    pub(super) symbols: HashMap<String, Option<LiveQuote>>,
}

impl QuoteSession {
    /// Whether anything in it moves.
    pub(super) fn is_live(&self) -> bool {
        self.symbols.values().any(Option::is_some)
    }
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
        let mask = Wanted::of(Some(&wanted));
        let before = quotes.fields.replace(wanted);
        quotes.symbols.values_mut().flatten().for_each(|live| live.wanted = mask);
        let known: Vec<String> = quotes.symbols.keys().cloned().collect();
        if let Some(before) = before {
            for name in known {
                let mut fields = self.fields_of(session, &name);
                fields.retain(|field, _| !before.contains(field));
                self.send_quote(now, session, &name, fields);
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
        let names: Vec<&str> = names.filter(|name| !quotes.symbols.contains_key(*name)).collect();
        for name in names {
            let Some(quotes) = self.quotes.get_mut(session) else { return };
            if quotes.symbols.len() >= MAX_SYMBOLS {
                return self.critical(now, request, "invalid_parameters");
            }
            if !quotes.symbols.contains_key(name) {
                quotes.symbols.insert(name.to_owned(), None);
                self.tell_quote(session, name, now);
            }
        }
    }

    fn tell_quote(&mut self, session: &str, name: &str, now: Instant) {
        let symbol = self.symbol_named(name);
        let gate = self.gate(symbol.as_ref(), now);
        let mut live = self.live_quote((session, name), gate.unwrap_or(now), now);
        let Some(due) = gate else {
            // What is not answered now may be told later.
            return self.keep_live(session, name, live);
        };
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
                if let Some(live) = &mut live {
                    live.begin();
                }
                self.keep_live(session, name, live);
                let fields = self.fields_of(session, name);
                self.send_quote(due, session, name, fields);
            }
        }
        if !silent_end {
            self.outbox.send(due, Answer::new("quote_completed", (session, name)).text());
        }
    }

    /// Subscribes to the market of `name`, where it moves and may be known.
    fn live_quote(
        &self,
        (session, name): (&str, &str),
        due: Instant,
        now: Instant,
    ) -> Option<LiveQuote> {
        let instrument = self.shared.world.find(&name_in(name)?)?;
        let replay = instrument.replay()?;
        let facts = instrument.facts();
        let faults = &self.shared.faults;
        let refused = faults.is_on(FaultKind::InvalidSymbol, Some(&facts.symbol))
            || faults.is_on(FaultKind::PermissionDenied, Some(&facts.symbol));
        if refused {
            return None;
        }
        let wanted = self.quotes.get(session).and_then(|quotes| quotes.fields.as_ref());
        let (symbol, scale) = (facts.symbol.clone(), f64::from(facts.price_scale));
        let told = replay.subscribe(now);
        Some(LiveQuote::new(symbol, (session, name), told, scale, Wanted::of(wanted), due))
    }

    fn keep_live(&mut self, session: &str, name: &str, live: Option<LiveQuote>) {
        self.something_happened();
        if let Some(quotes) = self.quotes.get_mut(session) {
            quotes.symbols.insert(name.to_owned(), live);
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
        let session_of_name = self.quotes.get(session).and_then(|quotes| quotes.symbols.get(name));
        let known = session_of_name.and_then(Option::as_ref).and_then(|live| live.known);
        let mut fields = match known {
            Some(mut quote) => {
                quote.volume = quote.volume.filter(|_| has_volume);
                moving_fields(instrument.facts(), &quote)
            }
            None => quote_fields(&instrument, has_volume),
        };
        let wanted = self.quotes.get(session).and_then(|quotes| quotes.fields.as_ref());
        if let Some(wanted) = wanted {
            fields.retain(|field, _| wanted.contains(field));
        }
        fields
    }

    /// A snapshot comes in two parts: what the instrument is, and what was traded.
    fn send_quote(&mut self, due: Instant, session: &str, name: &str, fields: Map<String, Value>) {
        let of_trade = |(field, _): &(String, Value)| TRADE_FIELDS.contains(&field.as_str());
        let (traded, naming): (Vec<_>, Vec<_>) = fields.into_iter().partition(of_trade);
        for part in [naming, traded] {
            if !part.is_empty() {
                let values = Map::from_iter(part);
                let quote = json!({"n": name, "s": "ok", "v": values});
                self.outbox.send(due, Answer::new("qsd", (session, quote)).text());
            }
        }
    }
}
