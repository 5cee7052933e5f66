//! One symbol's updates to one client, and what faults make of them.

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::live_fields::{Wanted, delta};
use super::outbox::Outbox;
use crate::domain::shared::Symbol;
use crate::simulator::replay::{Cause, Change, Entry, Quote, Reader, Reading};
use crate::simulator::wire::append_frame;
use crate::simulator::{FaultBoard, FaultKind};

/// Seconds that `late` takes off a time unless told otherwise, and every how many updates.
const LATE_SECONDS: u32 = 60;
const LATE_EVERY: u64 = 10;

/// The update from which `session-reset` counts unless told otherwise.
const RESET_AT: u32 = 10;

/// A symbol that moves, as a client is told of it.
#[derive(Debug)]
pub(super) struct LiveQuote {
    pub(super) symbol: Symbol,
    reader: Reader,
    /// What the client has been told; none where it was told nothing so far.
    pub(super) known: Option<Quote>,
    pub(super) wanted: Wanted,
    scale: f64,
    /// Everything of a message before what changed.
    prefix: String,
    /// Nothing overtakes what was told before.
    told_until: Instant,
    /// The client asked for a rest.
    pub(super) parked: bool,
    newest: Option<Quote>,
    held: Option<Change>,
    late: u64,
    reset: Reset,
}

#[derive(Debug, Default)]
struct Reset {
    updates: u64,
    base: Option<f64>,
    before: f64,
}

/// What faults make of updates, looked up once for many.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
struct Spoiling {
    garbage: bool,
    truncated: bool,
    twice: bool,
    reorder: bool,
    late: Option<u32>,
    reset: Option<u32>,
    no_volume: bool,
}

impl Spoiling {
    fn of(faults: &FaultBoard, symbol: &Symbol) -> Self {
        let on = |kind| faults.is_on(kind, Some(symbol));
        let number = |kind, usual| {
            faults.find(kind, Some(symbol)).map(|fault| fault.number().unwrap_or(usual))
        };
        Self {
            garbage: on(FaultKind::Garbage),
            truncated: on(FaultKind::TruncatedFrame),
            twice: on(FaultKind::Duplicates),
            reorder: on(FaultKind::Reorder),
            late: number(FaultKind::Late, LATE_SECONDS),
            reset: number(FaultKind::SessionReset, RESET_AT),
            no_volume: on(FaultKind::NoVolume) || on(FaultKind::NullVolume),
        }
    }
}

/// What became of a client's updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// There is no more.
    All,
    /// There is more.
    Some,
    /// It was too slow for too long.
    Lost,
}

impl LiveQuote {
    /// Tells the client of `session` about `name` what `reader` reads from `due` on.
    pub(super) fn new(
        symbol: Symbol,
        (session, name): (&str, &str),
        (quote, reader): (Quote, Reader),
        scale: f64,
        wanted: Wanted,
        due: Instant,
    ) -> Self {
        let (session, name) = (Value::from(session), Value::from(name));
        Self {
            symbol,
            reader,
            known: None,
            wanted,
            scale,
            prefix: format!(r#"{{"m":"qsd","p":[{session},{{"n":{name},"s":"ok","v":{{"#),
            told_until: due,
            parked: false,
            newest: Some(quote),
            held: None,
            late: 0,
            reset: Reset::default(),
        }
    }

    /// The quote to begin with. The client is told it now.
    pub(super) fn begin(&mut self) -> Option<Quote> {
        self.known = self.newest;
        self.known
    }

    /// Whether there is anything to tell, or to be told off for.
    pub(super) fn has_news(&self) -> bool {
        self.reader.has_news() || self.held.is_some()
    }

    /// Reads up to `most` updates and puts them in `outbox` at `due`; none is nobody's to know.
    pub(super) fn tell(
        &mut self,
        faults: &FaultBoard,
        outbox: &mut Outbox,
        most: usize,
        due: Option<Instant>,
        now: Instant,
    ) -> (Told, usize) {
        let (entries, more) = match self.reader.read(most, now) {
            Reading::Entries(entries, more) => (entries, more),
            Reading::Conflated | Reading::Lost => return (Told::Lost, 0),
        };
        let spoiling = Spoiling::of(faults, &self.symbol);
        let mut sent = 0;
        for entry in entries {
            if let Entry::Change(change) = &entry {
                self.newest = Some(change.quote);
            }
            let Some(due) = due.filter(|_| !self.parked) else { continue };
            self.told_until = self.told_until.max(due);
            sent += match entry {
                Entry::Change(change) => self.tell_in_order(change, spoiling, outbox),
                Entry::Fields(fields) => self.invent(&fields, outbox),
            };
        }
        if let Some(held) = self.held.take_if(|_| !spoiling.reorder) {
            sent += self.tell_change(held, spoiling, outbox);
        }
        (if more { Told::Some } else { Told::All }, sent)
    }

    /// Tells what changed while the client rested.
    pub(super) fn wake(&mut self, outbox: &mut Outbox, now: Instant) {
        self.told_until = self.told_until.max(now);
        if let Some(quote) = self.newest.filter(|_| self.parked) {
            let members = delta(self.known.as_ref(), &quote, self.scale, self.wanted, false);
            self.known = Some(quote);
            self.send(&members, outbox);
        }
        self.parked = false;
    }

    /// The order they come in, which a fault may change: of two trades the second first.
    fn tell_in_order(&mut self, change: Change, by: Spoiling, outbox: &mut Outbox) -> usize {
        match self.held.take() {
            None if by.reorder && change.cause == Cause::Trade => {
                self.held = Some(change);
                0
            }
            None => self.tell_change(change, by, outbox),
            Some(held) if change.cause == Cause::Trade => {
                self.tell_change(change, by, outbox) + self.tell_change(held, by, outbox)
            }
            Some(held) => self.tell_change(held, by, outbox) + self.tell_change(change, by, outbox),
        }
    }

    fn tell_change(&mut self, change: Change, by: Spoiling, outbox: &mut Outbox) -> usize {
        let quote = self.spoilt(change, by);
        let ends = change.cause == Cause::End;
        let members = delta(self.known.as_ref(), &quote, self.scale, self.wanted, ends);
        if members.is_empty() {
            self.known = Some(quote);
            return 0;
        }
        if by.garbage {
            super::delivery::send_garbage(outbox, self.told_until);
            return 0;
        }
        self.known = Some(quote);
        if by.truncated {
            let mut message = String::new();
            append_frame(&mut message, &self.text(&members));
            let half = (message.len() / 2..message.len()).find(|at| message.is_char_boundary(*at));
            message.truncate(half.unwrap_or_default());
            outbox.send_raw(self.told_until, message);
            return 1;
        }
        let times = if by.twice { 2 } else { 1 };
        (0..times).for_each(|_| self.send(&members, outbox));
        times
    }

    fn spoilt(&mut self, change: Change, by: Spoiling) -> Quote {
        let mut quote = change.quote;
        let is_trade = change.cause == Cause::Trade;
        match (by.late, &mut quote.last) {
            (Some(seconds), Some(last)) if is_trade => {
                if self.late.is_multiple_of(LATE_EVERY) {
                    last.second -= i64::from(seconds);
                }
                self.late += 1;
            }
            (Some(_), _) => {}
            (None, _) => self.late = 0,
        }
        match by.reset {
            Some(at) => {
                self.reset.updates += u64::from(is_trade);
                self.reset.count(&mut quote, u64::from(at));
            }
            None => self.reset = Reset::default(),
        }
        self.reset.before = change.quote.volume.unwrap_or_default();
        if by.no_volume {
            quote.volume = None;
        }
        quote
    }

    fn invent(&self, fields: &Map<String, Value>, outbox: &mut Outbox) -> usize {
        let members = Value::Object(fields.clone()).to_string();
        let members = members.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        self.send(members.unwrap_or_default(), outbox);
        1
    }

    fn send(&self, members: &str, outbox: &mut Outbox) {
        if !members.is_empty() {
            outbox.send(self.told_until, self.text(members));
        }
    }

    fn text(&self, members: &str) -> String {
        let mut text = String::with_capacity(self.prefix.len() + members.len() + 4);
        text.push_str(&self.prefix);
        text.push_str(members);
        text.push_str("}}]}");
        text
    }
}

impl Reset {
    /// Counts the day's volume from the update `at` on, until the next day begins.
    fn count(&mut self, quote: &mut Quote, at: u64) {
        let Some(volume) = quote.volume else { return };
        if volume < self.before && self.base.is_some() {
            self.base = Some(0.0);
        }
        if self.base.is_none() && self.updates >= at {
            self.base = Some(self.before);
        }
        quote.volume = Some(volume - self.base.unwrap_or_default());
    }
}
