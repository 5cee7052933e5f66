//! What the ledger of coverage is told: until when symbols were heard, when the feed was cut, and
//! what the provider has answered.

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use tracing::debug;

use super::FeedTask;
use super::followed::{Followed, Progress};
use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::FeedClock;
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Series, Symbol};
use crate::features::market_data::quote::job::Job;

impl FeedTask {
    /// Says until when each symbol was heard; but for the grace in which bars still close, or a bar
    /// that is about to be stored would be taken for none.
    pub(super) fn note_heard(&self) {
        let grace = self.options.rules.grace;
        let heard = |(symbol, followed): (_, &Followed)| {
            let is_heard = followed.progress == Progress::Joined && followed.cut_at.is_none();
            let until = self.heard_until(followed.id.filter(|_| is_heard)?, followed)?;
            Some((symbol, until.saturating_sub(grace).ok()?))
        };
        self.parts.ledger.heard(self.symbols.iter().filter_map(heard));
    }

    /// The feed is away from all symbols.
    pub(super) fn note_cut(&self) {
        self.note_heard();
        for symbol in self.symbols.keys() {
            self.parts.ledger.cut(symbol);
        }
    }

    /// The feed is there for a symbol, from its snapshot on.
    pub(super) fn note_joined(&self, symbol: &Symbol, id: SymbolId) {
        let Some(followed) = self.symbols.get(symbol) else { return };
        let since = self.heard_until(id, followed);
        self.parts.ledger.heard(since.map(|since| (symbol, since)));
    }

    /// What the provider has of `answered` is on its way to the database: the ledger is told once
    /// it is there.
    pub(super) async fn note_answered(&mut self, series: Series, answered: BarRange) {
        let (stored, is_stored) = oneshot::channel();
        self.write(Job::Barrier(stored)).await;
        let ledger = self.parts.ledger.clone();
        let note = async move {
            if is_stored.await.is_err() {
                return;
            }
            if let Err(error) = ledger.answered(&series, answered).await {
                debug!(%series, %error, "what was answered of {series} is not noted; it is asked for again");
            }
        };
        drop(self.parts.lifecycle.spawn("note coverage", note));
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
