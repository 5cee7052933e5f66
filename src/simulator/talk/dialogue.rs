//! One connection's state, and which request goes where.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::chart::ChartSession;
use super::hello::hello;
use super::outbox::{Due, Outbox, millis};
use super::quote::QuoteSession;
use crate::domain::shared::Symbol;
use crate::simulator::wire::{Answer, Payload, Request, decode};
use crate::simulator::{FaultKind, Shared};

/// Every so many answers with bars, a heartbeat rides in the same message.
const ANSWERS_PER_HEARTBEAT: u32 = 4;

/// The conversation on one connection.
#[derive(Debug)]
pub(in crate::simulator) struct Dialogue {
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: Outbox,
    /// Heard, and not answered yet: there was no room for more answers.
    unanswered_requests: VecDeque<Request>,
    pub(super) charts: HashMap<String, ChartSession>,
    pub(super) quotes: HashMap<String, QuoteSession>,
    sessions_opened: u32,
    answers: u32,
    beat: u64,
    next_beat: Instant,
    unanswered: VecDeque<(u64, Instant)>,
    dead: bool,
    /// Whether markets may have something to tell.
    pub(super) updates_wait: bool,
    cuts_seen: u64,
}

impl Dialogue {
    /// The conversation on the connection `number`; it begins with the server's greeting.
    pub(in crate::simulator) fn new(shared: Arc<Shared>, number: u64, now: Instant) -> Self {
        let mut outbox = Outbox::default();
        let dead = shared.faults.find(FaultKind::Dead, None).is_some();
        let cuts_seen = shared.faults.cuts();
        if !shared.faults.is_on(FaultKind::NoHello, None) {
            outbox.send(now, hello(number, shared.clock.now()));
        }
        Self {
            next_beat: now + shared.settings.heartbeat,
            shared,
            outbox,
            unanswered_requests: VecDeque::new(),
            charts: HashMap::new(),
            quotes: HashMap::new(),
            sessions_opened: 0,
            answers: 0,
            beat: 0,
            unanswered: VecDeque::new(),
            dead,
            updates_wait: false,
            cuts_seen,
        }
    }

    /// Whether the client may say more: not while too much waits to be sent.
    pub(in crate::simulator) fn listens(&self) -> bool {
        self.unanswered_requests.is_empty() && self.outbox.has_room()
    }

    /// When [`take`](Self::take) has something next.
    pub(in crate::simulator) fn next_due(&self) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let echo = self.unanswered.front().map(|(_, sent)| *sent + self.patience());
        let update = (self.updates_wait && self.has_room_for_updates()).then(Instant::now);
        let times = [self.outbox.next_due(), Some(self.next_beat), echo, update];
        times.into_iter().flatten().min()
    }

    /// What is due at `now`, until there is nothing more.
    pub(in crate::simulator) fn take(&mut self, now: Instant) -> Option<Due> {
        if self.dead {
            return None;
        }
        let patience = self.patience();
        if self.unanswered.front().is_some_and(|(_, sent)| *sent + patience <= now) {
            return Some(Due::Cut);
        }
        if self.next_beat <= now {
            self.send_heartbeat(now);
        }
        self.answer_more(now);
        self.tell_updates(now);
        let due = self.outbox.take(now)?;
        if due == Due::Death {
            self.dead = true;
            // Who is told nothing holds no market up.
            self.quotes.clear();
            return None;
        }
        Some(due)
    }

    /// Whether it waits for what happens in markets.
    pub(in crate::simulator) fn is_live(&self) -> bool {
        self.quotes.values().any(QuoteSession::is_live)
    }

    /// Something happened in a market.
    pub(in crate::simulator) fn something_happened(&mut self) {
        self.updates_wait = true;
    }

    /// Takes in a message of the client.
    pub(in crate::simulator) fn hear(&mut self, message: &str, now: Instant) {
        if self.dead {
            return;
        }
        // Some clients send a bare `~h~1`: no echo, but no crime either.
        if message.starts_with("~h~") {
            return;
        }
        let Ok(payloads) = decode(message) else { return self.end(now, "wrong frame") };
        for payload in payloads {
            match payload {
                Payload::Heartbeat(number) => self.heard_heartbeat(number),
                Payload::Text(text) => {
                    let Ok(request) = serde_json::from_str::<Request>(text) else {
                        self.answer_more(now);
                        return self.end(now, "wrong data");
                    };
                    self.unanswered_requests.push_back(request);
                }
            }
        }
    }

    /// Answers what was heard, for as long as there is room.
    fn answer_more(&mut self, now: Instant) {
        while self.outbox.has_room() {
            let Some(request) = self.unanswered_requests.pop_front() else { return };
            self.answer(&request, now);
        }
    }

    /// Applies what was switched on for everybody to a conversation that goes on.
    pub(in crate::simulator) fn faults_changed(&mut self, now: Instant) {
        if self.shared.faults.is_on(FaultKind::Dead, None) {
            self.outbox.die(now);
        }
        if self.shared.faults.is_out(now) {
            self.outbox.cut(now);
        }
        self.something_happened();
        let cuts = self.shared.faults.cuts();
        if cuts > self.cuts_seen {
            self.cuts_seen = cuts;
            let cut = self.shared.faults.find(FaultKind::Cut, None);
            let wait = cut.and_then(|cut| cut.number()).unwrap_or_default();
            self.outbox.cut(now + millis(wait));
        }
    }

    fn answer(&mut self, request: &Request, now: Instant) {
        match request.method.as_str() {
            "set_auth_token" => self.set_auth_token(request, now),
            "quote_create_session" => self.create_quote_session(request, now),
            "quote_set_fields" => self.set_quote_fields(request, now),
            "quote_add_symbols" => self.add_quote_symbols(request, now),
            "quote_remove_symbols" => self.remove_quote_symbols(request),
            "quote_delete_session" => self.delete_quote_session(request),
            "quote_fast_symbols" => self.park_quotes(request, false),
            "quote_hibernate_all" => self.park_quotes(request, true),
            "chart_create_session" => self.create_chart_session(request, now),
            "chart_delete_session" => self.delete_chart_session(request),
            "switch_timezone" => self.switch_timezone(request, now),
            "resolve_symbol" => self.resolve_symbol(request, now),
            "create_series" => self.create_series(request, now),
            "modify_series" => self.modify_series(request, now),
            "remove_series" => self.remove_series(request, now),
            "request_more_data" => self.request_more_data(request, now),
            "request_more_tickmarks" => self.request_more_tickmarks(request, now),
            "get_first_bar_time" => self.get_first_bar_time(request, now),
            "create_study" => self.create_study(request, now),
            // Nothing here depends on these, and what is unknown has no answer.
            other => tracing::trace!(method = other, "nothing to answer"),
        }
    }

    fn set_auth_token(&mut self, request: &Request, now: Instant) {
        let token = request.text(0).unwrap_or_default();
        self.shared.stats.token_seen(token);
        if let Some(fault) = self.shared.faults.find(FaultKind::ProtocolError, None) {
            let text = fault.arg().unwrap_or("banned").to_owned();
            return self.end(now, &text);
        }
        let fault = self.shared.faults.find(FaultKind::BadToken, None);
        let named_bad = fault.is_some_and(|fault| fault.arg().is_none_or(|bad| bad == token));
        if named_bad || has_expired(token, Timestamp::now()) {
            self.end(now, "bad auth token");
        }
    }

    /// The end of the connection, with a word about it.
    fn end(&mut self, now: Instant, reason: &str) {
        self.unanswered_requests.clear();
        self.outbox.send(now, Answer::new("protocol_error", [reason]).text());
        self.outbox.cut(now);
    }

    /// Counts a new session; false where there were too many on this connection.
    pub(super) fn opens_session(&mut self, request: &Request, now: Instant) -> bool {
        let fault = self.shared.faults.find(FaultKind::MaxSessions, None);
        let most = fault.map(|fault| fault.number().unwrap_or_default());
        if self.sessions_opened >= most.unwrap_or(self.shared.settings.sessions_per_connection) {
            self.critical(now, request, "max sessions rate reached");
            return false;
        }
        self.sessions_opened += 1;
        true
    }

    /// Whether, and when, a request about `symbol` is answered.
    pub(super) fn gate(&mut self, symbol: Option<&Symbol>, now: Instant) -> Option<Instant> {
        let faults = &self.shared.faults;
        if faults.is_on(FaultKind::Dead, symbol) {
            self.outbox.die(now);
            return None;
        }
        if let Some(cut) = faults.find(FaultKind::Cut, symbol) {
            self.outbox.cut(now + millis(cut.number().unwrap_or_default()));
            cut.number()?;
        }
        if faults.is_on(FaultKind::Silence, symbol) {
            return None;
        }
        let slow = faults.find(FaultKind::Slow, symbol);
        Some(slow.map_or(now, |slow| now + millis(slow.number().unwrap_or(1_000))))
    }

    /// An error that ends what the request was about, not the connection.
    pub(super) fn critical(&mut self, due: Instant, request: &Request, reason: &str) {
        let session = request.text(0).unwrap_or_default();
        let answer = Answer::new("critical_error", (session, reason, request.named()));
        self.outbox.send(due, answer.text());
    }

    /// Lets a heartbeat ride with an answer now and then.
    pub(super) fn answered_with_bars(&mut self, due: Instant) {
        self.answers = self.answers.wrapping_add(1);
        if self.answers.is_multiple_of(ANSWERS_PER_HEARTBEAT) {
            self.send_heartbeat(due);
        }
    }

    fn send_heartbeat(&mut self, due: Instant) {
        self.next_beat = due + self.shared.settings.heartbeat;
        if self.shared.faults.is_on(FaultKind::NoHeartbeat, None) {
            return;
        }
        self.beat += 1;
        self.unanswered.push_back((self.beat, due));
        self.outbox.send(due, format!("~h~{}", self.beat));
    }

    fn heard_heartbeat(&mut self, number: u64) {
        let before = self.unanswered.len();
        self.unanswered.retain(|(sent, _)| *sent != number);
        self.shared.stats.heartbeats_echoed.add(before - self.unanswered.len());
    }

    /// How long a heartbeat may stay without its echo.
    fn patience(&self) -> std::time::Duration {
        self.shared.settings.heartbeat * 2
    }
}

/// Whether `token` is a JWT whose time is over at `now`. What is no JWT never expires.
fn has_expired(token: &str, now: Timestamp) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    let expiry = claims.as_ref().and_then(|claims| claims.get("exp")).and_then(Value::as_i64);
    expiry.is_some_and(|expiry| expiry <= now.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_expires_when_it_says_so() {
        let token = |claims: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        let now = Timestamp::from_second(1_000).unwrap();
        assert!(has_expired(&token(r#"{"exp":1000}"#), now));
        assert!(!has_expired(&token(r#"{"exp":1001}"#), now));
        assert!(!has_expired("unauthorized_user_token", now));
        assert!(!has_expired("a.b.c", now));
    }
}
