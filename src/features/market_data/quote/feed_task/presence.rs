//! What the ledger of coverage is told: until when symbols were heard, when the feed was cut, and
//! what the provider has answered. Each note is taken in once all bars that were decided before it
//! are stored: a bar on its way to the database must not pass for none.

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::FeedTask;
use super::followed::{Followed, Progress};
use crate::common::error::with_causes;
use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::FeedClock;
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Series, Symbol};
use crate::features::market_data::CoverageLedger;
use crate::features::market_data::quote::job::{Job, Safe};

/// Something that the ledger is to know.
#[derive(Debug)]
enum Note {
    /// Each symbol was heard on, until then.
    Heard(Vec<(Symbol, Timestamp)>),
    /// The feed is there for a symbol, from then on.
    Back(Symbol, Timestamp),
    /// The feed is away from symbols.
    Cut(Vec<Symbol>),
    /// Nobody wants a symbol any more.
    LetGo(Symbol),
    /// What the provider has of this time is stored.
    Answered(Series, BarRange),
    /// Somebody waits until all before it is written and noted.
    Settled(oneshot::Sender<Safe>),
}

/// A note, and who says that what was decided before it is safe.
#[derive(Debug)]
pub(super) struct Noted {
    note: Note,
    safe: oneshot::Receiver<Safe>,
}

/// Takes notes in, in order, until the feed's task is gone; then all is written down. There are no
/// more at a time than the writer has jobs.
pub(super) async fn take_notes(ledger: CoverageLedger, mut notes: mpsc::UnboundedReceiver<Noted>) {
    while let Some(Noted { note, safe }) = notes.recv().await {
        let safe = safe.await.ok();
        let is_stored = safe.is_some();
        match note {
            Note::Heard(symbols) if is_stored => {
                ledger.heard(symbols.iter().map(|(symbol, until)| (symbol, *until)));
            }
            Note::Answered(series, range) if is_stored => {
                // Else it stays missing, and is asked for again.
                if let Err(error) = ledger.answered(&series, range).await {
                    let error = with_causes(&error);
                    warn!(%series, error, "what was answered of {series} could not be noted");
                }
            }
            Note::Heard(_) | Note::Answered(..) => {}
            Note::Back(symbol, since) => ledger.heard([(&symbol, since)]),
            Note::Cut(symbols) => symbols.iter().for_each(|symbol| ledger.cut(symbol)),
            Note::LetGo(symbol) => ledger.let_go(&symbol),
            Note::Settled(answer) => {
                // Whoever waited may be gone; a writer that is gone has nothing to say.
                let _heard = safe.map(|safe| answer.send(safe));
            }
        }
    }
    if let Err(error) = ledger.settle().await {
        warn!(error = with_causes(&error), "the end of the feed could not be noted");
    }
}

impl FeedTask {
    /// Says until when each symbol was heard; but for the grace in which bars still close.
    pub(super) async fn note_heard(&mut self) {
        if self.standing.borrow().is_behind {
            return;
        }
        self.advance().await;
        let grace = self.options.rules.grace;
        let heard = |(symbol, followed): (&Symbol, &Followed)| {
            let is_heard = followed.progress == Progress::Joined && followed.cut_at.is_none();
            let until = self.heard_until(followed.id.filter(|_| is_heard)?, followed)?;
            Some((symbol.clone(), until.saturating_sub(grace).ok()?))
        };
        let heard: Vec<_> = self.symbols.iter().filter_map(heard).collect();
        if !heard.is_empty() {
            self.note(Note::Heard(heard)).await;
        }
    }

    /// The feed is away from all symbols.
    pub(super) async fn note_cut(&mut self) {
        let is_heard = |followed: &Followed| followed.progress == Progress::Joined;
        if self.symbols.values().any(is_heard) {
            self.note_heard().await;
            let symbols = self.symbols.keys().cloned().collect();
            self.note(Note::Cut(symbols)).await;
        }
    }

    /// The feed is away from a symbol.
    pub(super) async fn note_cut_of(&mut self, symbol: &Symbol) {
        self.note(Note::Cut(vec![symbol.clone()])).await;
    }

    /// The feed is there for a symbol, from its snapshot on.
    pub(super) async fn note_back(&mut self, symbol: &Symbol, id: SymbolId) {
        let since = self.symbols.get(symbol).and_then(|followed| self.heard_until(id, followed));
        if let Some(since) = since {
            self.note(Note::Back(symbol.clone(), since)).await;
        }
    }

    /// Nobody wants a symbol any more, and all of it is handed on.
    pub(super) async fn note_let_go(&mut self, symbol: &Symbol) {
        self.note(Note::LetGo(symbol.clone())).await;
    }

    /// Answers once all that was decided and said by now is safe, and where.
    pub(super) async fn settle(&mut self, answer: oneshot::Sender<Safe>) {
        self.note(Note::Settled(answer)).await;
    }

    /// What the provider has of `range` is on its way to the database.
    pub(super) async fn note_answered(&mut self, series: Series, range: BarRange) {
        self.note(Note::Answered(series, range)).await;
    }

    async fn note(&mut self, note: Note) {
        let (stored, safe) = oneshot::channel();
        self.write(Job::Barrier(stored)).await;
        // Taken in until this task is gone.
        drop(self.notes.send(Noted { note, safe }));
    }

    /// How far a symbol was heard, in the time of its bars.
    fn heard_until(&self, id: SymbolId, followed: &Followed) -> Option<Timestamp> {
        match self.options.rules.clock {
            FeedClock::Event => self.manager.event_time(id),
            FeedClock::Wall => {
                let delay = followed.quote.delay.unwrap_or_default();
                let delay = SignedDuration::try_from(delay).ok()?;
                self.heard_at?.saturating_sub(delay).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::market_data::quote::feed_task::tests::Desk;
    use crate::features::market_data::quote::test_bench::{Bench, at, hour, symbol};

    #[tokio::test]
    async fn the_grace_in_which_bars_still_close_is_not_heard_yet() {
        let mut desk = Desk::joined().await;
        let (notes, mut received) = mpsc::unbounded_channel();
        desk.task.notes = notes;
        let trade = desk.trade(60);
        desk.task.manager.ticks(at(0), &[trade]);
        desk.task.note_heard().await;
        let Note::Heard(heard) = received.try_recv().unwrap().note else { panic!("not heard") };
        assert_eq!(heard, [(symbol(), at(58))]);
    }

    #[tokio::test]
    async fn what_was_heard_counts_once_all_that_was_decided_before_is_stored() {
        let bench = Bench::start().await;
        let ledger = bench.parts.ledger.clone();
        let (notes, to_note) = mpsc::unbounded_channel();
        let taking = bench.parts.lifecycle.spawn("notes", take_notes(ledger.clone(), to_note));
        let heard = async || ledger.facts(&hour(), at(3_600)).await.unwrap().connected;
        let note = |note| {
            let (stored, safe) = oneshot::channel();
            notes.send(Noted { note, safe }).unwrap();
            stored
        };
        drop(note(Note::Back(symbol(), at(0))));
        let stored = note(Note::Heard(vec![(symbol(), at(600))]));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let before = heard().await;
        stored.send(Safe::Stored).unwrap();
        // A writer that is gone has stored nothing.
        drop(note(Note::Heard(vec![(symbol(), at(1_200))])));
        drop(notes);
        taking.await.unwrap().unwrap();
        let after = heard().await;
        assert_ne!(before, after);
        let range = |until| BarRange::new(at(0), at(until)).unwrap();
        assert!(after.covers(range(600)) && !after.covers(range(601)), "{after:?}");
        assert!(!before.covers(range(600)), "{before:?}");
    }
}
