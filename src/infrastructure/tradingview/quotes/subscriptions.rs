//! What the server was told on one connection and how far each symbol has come. Pure: times come
//! in as arguments.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::time::Instant;

use super::inbox::Wishes;
use super::message::{Incoming, QuoteData};
use super::values::FIELDS;
use crate::domain::quote::QuoteUpdate;
use crate::domain::shared::Symbol;
use crate::infrastructure::interfaces::{FeedEvent, Phase, ProviderError, UpdateKind};
use crate::infrastructure::tradingview::{errors, message};

/// Symbols that are added, and removed, in one message.
const CHUNK: usize = 50;

/// A quote session of one connection.
#[derive(Debug)]
pub(super) struct Subscriptions {
    session: String,
    entries: HashMap<Arc<str>, Entry>,
    /// Snapshots that have begun, and when, in that order. Those that are complete stay for a
    /// while, and are about twice as many as symbols at most.
    begun: VecDeque<(Instant, Arc<str>)>,
    patience: Duration,
}

#[derive(Debug)]
struct Entry {
    symbol: Symbol,
    /// The number of the command that added it.
    added: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing came yet.
    Asked,
    /// Its first values come, since then.
    Snapshot(Instant),
    /// Changes come.
    Live,
    /// The server refuses it.
    Refused,
}

impl Subscriptions {
    /// Nothing was told yet. A snapshot whose end is not told ends after `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        let (entries, begun) = (HashMap::new(), VecDeque::new());
        Self { session: session_id(), entries, begun, patience }
    }

    /// What opens the session.
    pub(super) fn opening(&self) -> Vec<String> {
        let session = self.session.as_str();
        let fields: Vec<&str> = std::iter::once(session).chain(FIELDS).collect();
        vec![
            message::command("quote_create_session", [session]),
            message::command("quote_set_fields", fields),
        ]
    }

    /// What has to be told next: one message of removals and one of additions at most.
    pub(super) fn next_commands(&mut self, wishes: &mut Wishes) -> Vec<String> {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        while removed.len() < CHUNK && added.len() < CHUNK {
            let Some((symbol, wanted)) = wishes.next_change() else { break };
            let known = self.entries.get(symbol.as_str()).map(|entry| entry.added);
            if known == wanted {
                continue;
            }
            if known.is_some() {
                self.entries.remove(symbol.as_str());
                removed.push(symbol.clone());
            }
            if let Some(number) = wanted {
                let entry = Entry { symbol: symbol.clone(), added: number, stage: Stage::Asked };
                self.entries.insert(symbol.as_str().into(), entry);
                added.push(symbol);
            }
        }
        let command = |method, symbols: &[Symbol]| {
            let names = symbols.iter().map(Symbol::as_str);
            let params: Vec<&str> = std::iter::once(self.session.as_str()).chain(names).collect();
            (!symbols.is_empty()).then(|| message::command(method, params))
        };
        let removal = command("quote_remove_symbols", &removed);
        removal.into_iter().chain(command("quote_add_symbols", &added)).collect()
    }

    /// What `incoming` means; an error ends the connection.
    pub(super) fn apply(
        &mut self,
        incoming: Incoming<'_>,
        now: Instant,
        events: &mut Vec<FeedEvent>,
    ) -> Result<(), ProviderError> {
        match incoming {
            Incoming::Quote { session, quote } if session == self.session => {
                if quote.status == "ok" {
                    self.update(&quote.name, quote.update, now, events);
                } else {
                    self.refused(&quote, events);
                }
            }
            Incoming::Completed { session, name } if session == self.session => {
                if let Some(entry) = self.entries.get_mut(name.as_ref()) {
                    entry.complete(events);
                }
            }
            Incoming::CriticalError { session, said } if session == self.session => {
                return Err(errors::critical_error(&said, Phase::Quotes));
            }
            Incoming::ProtocolError(said) => {
                return Err(errors::protocol_error(&said, Phase::Quotes));
            }
            // Of a session that is not ours nobody wants to hear.
            Incoming::Quote { .. }
            | Incoming::Completed { .. }
            | Incoming::CriticalError { .. }
            | Incoming::Other => {}
        }
        Ok(())
    }

    fn update(
        &mut self,
        name: &str,
        update: QuoteUpdate,
        now: Instant,
        events: &mut Vec<FeedEvent>,
    ) {
        // It may be one that was removed.
        let Some((name, _)) = self.entries.get_key_value(name) else { return };
        let name = Arc::clone(name);
        let Some(entry) = self.entries.get_mut(&name) else { return };
        let symbol = entry.symbol.clone();
        let kind = match entry.stage {
            Stage::Live => UpdateKind::Change,
            Stage::Snapshot(_) => UpdateKind::Snapshot,
            Stage::Asked | Stage::Refused => {
                entry.stage = Stage::Snapshot(now);
                self.begin(now, name);
                UpdateKind::Snapshot
            }
        };
        if update != QuoteUpdate::default() {
            events.push(FeedEvent::Update { symbol, update, kind });
        }
    }

    fn begin(&mut self, now: Instant, name: Arc<str>) {
        if self.begun.len() > 2 * self.entries.len() {
            let entries = &self.entries;
            let begins = |(begun, name): &(Instant, Arc<str>)| {
                entries.get(name).is_some_and(|entry| entry.stage == Stage::Snapshot(*begun))
            };
            self.begun.retain(begins);
        }
        self.begun.push_back((now, name));
    }

    fn refused(&mut self, quote: &QuoteData<'_>, events: &mut Vec<FeedEvent>) {
        let Some(entry) = self.entries.get_mut(quote.name.as_ref()) else { return };
        if entry.stage == Stage::Refused {
            return;
        }
        entry.stage = Stage::Refused;
        let symbol = entry.symbol.clone();
        let reason = quote.reason.as_deref().unwrap_or_default();
        let group = quote.alternative.as_deref().map(str::to_owned);
        let error = errors::quote_error(&symbol, &quote.status, reason, group);
        events.push(FeedEvent::SymbolError { symbol, error });
    }

    /// When the next snapshot has to be complete.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.begun.front().map(|(begun, _)| *begun + self.patience)
    }

    /// Ends the snapshots whose end was not told in time.
    pub(super) fn end_overdue(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        while let Some((begun, name)) =
            self.begun.pop_front_if(|(begun, _)| *begun + self.patience <= now)
        {
            let entry = self.entries.get_mut(&name);
            if let Some(entry) = entry.filter(|entry| entry.stage == Stage::Snapshot(begun)) {
                tracing::debug!(symbol = %entry.symbol, "the end of a snapshot was not told");
                entry.complete(events);
            }
        }
    }
}

impl Entry {
    fn complete(&mut self, events: &mut Vec<FeedEvent>) {
        match self.stage {
            Stage::Asked | Stage::Snapshot(_) => {
                self.stage = Stage::Live;
                events.push(FeedEvent::SnapshotComplete { symbol: self.symbol.clone() });
            }
            // After a refusal, and told twice.
            Stage::Refused | Stage::Live => {}
        }
    }
}

/// `qs_` and twelve characters, as the web site makes them.
fn session_id() -> String {
    let random = rand::rng().sample_iter(Alphanumeric).take(12).map(char::from);
    std::iter::once("qs_".to_owned()).chain(random.map(String::from)).collect()
}

#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;
