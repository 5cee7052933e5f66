//! Tells a connection what happens in the markets that it has subscribed to.

use tokio::time::Instant;

use super::Dialogue;
use super::live::Told;
use super::quote::QuoteSession;
use crate::simulator::wire::Request;

/// Updates that are told in one go, over all symbols, and the least for each.
const MOST_UPDATES: usize = 1_024;
const LEAST_OF_EACH: usize = 8;

impl Dialogue {
    /// Whether so little waits to be sent that updates may be added.
    pub(super) fn has_room_for_updates(&self) -> bool {
        self.outbox.is_nearly_empty()
    }

    /// Adds what happened since the last time to what is sent. Each symbol gets its share, and
    /// what does not fit waits in its market.
    pub(super) fn tell_updates(&mut self, now: Instant) {
        if !self.updates_wait || !self.has_room_for_updates() {
            return;
        }
        self.updates_wait = false;
        let mut quotes = std::mem::take(&mut self.quotes);
        let live = quotes.values().map(|session| session.symbols.values().flatten().count());
        let share = (MOST_UPDATES / live.sum::<usize>().max(1)).max(LEAST_OF_EACH);
        for session in quotes.values_mut() {
            self.tell_session(session, share, now);
        }
        self.quotes = quotes;
    }

    fn tell_session(&mut self, session: &mut QuoteSession, share: usize, now: Instant) {
        for live in session.symbols.values_mut().flatten() {
            if !live.has_news() {
                continue;
            }
            let due = self.gate(Some(&live.symbol), now);
            let (told, sent) = live.tell(&self.shared.faults, &mut self.outbox, share, due, now);
            self.shared.stats.updates_sent.add(sent);
            match told {
                Told::All => {}
                Told::Some => self.updates_wait = true,
                Told::Lost => self.outbox.cut(now),
            }
        }
    }

    /// `quote_hibernate_all` puts a session to rest, `quote_fast_symbols` wakes it.
    pub(super) fn park_quotes(&mut self, request: &Request, rests: bool) {
        let Some(session) = request.text(0).and_then(|session| self.quotes.get_mut(session)) else {
            return;
        };
        let now = Instant::now();
        for live in session.symbols.values_mut().flatten() {
            if rests {
                live.parked = true;
            } else {
                live.wake(&mut self.outbox, now);
            }
        }
    }
}
