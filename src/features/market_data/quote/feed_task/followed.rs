//! A symbol that the feed follows, for a subscription, for streams, or both.

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::Verdict;
use super::fetch::Lookup;
use super::owed::Owed;
use super::seed::Days;
use crate::domain::ohlcv::services::{BarManager, FeedClock, TrackSnapshot};
use crate::domain::quote::{Quote, SymbolId};
use crate::domain::shared::Symbol;
use crate::features::market_data::quote::feed_state::SubscriptionState;
use crate::infrastructure::interfaces::ProviderError;

/// How far following a symbol is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is under way.
    #[default]
    Waiting,
    /// Its session is being looked up.
    Resolving,
    /// The provider was asked to follow it.
    Joining,
    /// The provider confirmed it.
    Joined,
    /// The provider refused it.
    Refused,
}

/// A symbol that is followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Since when it is followed until told otherwise.
    pub(super) subscribed_at: Option<Timestamp>,
    /// From where on its closed bars are in the bar log.
    pub(super) logged_from: Option<Timestamp>,
    /// How many streams want it.
    pub(super) streams: usize,
    pub(super) progress: Progress,
    /// The number of the look-up that was begun last.
    pub(super) lookup: u64,
    pub(super) id: Option<SymbolId>,
    pub(super) quote: Quote,
    pub(super) sequence: u64,
    /// Whether the next part of a snapshot is its first.
    pub(super) snapshot_begins: bool,
    /// Whether it was joined before on this run of the feed.
    pub(super) joined_before: bool,
    /// When it, or the connection, last said anything before it was cut.
    pub(super) cut_at: Option<Timestamp>,
    /// When the newest minute opens that an earlier run has closed.
    pub(super) closed_before: Option<Timestamp>,
    /// Until when the feed has heard it before this run, until that is told.
    pub(super) heard_before: Option<Timestamp>,
    /// The days before it was looked up, or joined.
    pub(super) days: Option<Days>,
    pub(super) error: Option<ProviderError>,
    /// What was kept of its bars last.
    pub(super) kept: Option<TrackSnapshot>,
    /// What is to be done about closed bars, and is not yet.
    pub(super) owed: Owed,
    /// Who waits to hear whether the provider knows it.
    pub(super) waiting: Vec<mpsc::UnboundedSender<Verdict>>,
}

impl Followed {
    pub(super) const fn is_wanted(&self) -> bool {
        self.subscribed_at.is_some() || self.streams > 0
    }

    pub(super) const fn state(&self) -> SubscriptionState {
        match self.progress {
            Progress::Waiting | Progress::Resolving | Progress::Joining => {
                SubscriptionState::Pending
            }
            Progress::Joined => SubscriptionState::Active,
            Progress::Refused => SubscriptionState::Error,
        }
    }

    /// Whether its session is being looked up, perhaps not for the first time.
    pub(super) fn is_resolving(&self) -> bool {
        self.progress == Progress::Resolving
    }

    /// Whether this is the look-up that is under way, and not one before.
    pub(super) fn awaits(&self, lookup: &Lookup) -> bool {
        self.is_resolving() && self.lookup == lookup.number
    }

    /// A look-up of it begins, as the next of `all`.
    pub(super) fn look_up(&mut self, all: &mut u64, symbol: &Symbol) -> Lookup {
        *all += 1;
        (self.progress, self.lookup) = (Progress::Resolving, *all);
        Lookup { symbol: symbol.clone(), number: *all }
    }

    /// The provider does not give it.
    pub(super) fn refuse(&mut self, error: &ProviderError) {
        self.progress = Progress::Refused;
        self.error = Some(error.clone());
        self.decide(&Verdict::Refused(error.clone()));
    }

    /// It is asked for again.
    pub(super) fn forget_refusal(&mut self) {
        if self.progress == Progress::Refused {
            (self.progress, self.error) = (Progress::Waiting, None);
        }
    }

    /// The feed stopped. What the bar manager knows it by is given back.
    pub(super) fn forget_progress(&mut self) -> Option<SymbolId> {
        (self.progress, self.error) = (Progress::Waiting, None);
        (self.joined_before, self.cut_at) = (false, None);
        (self.kept, self.owed) = (None, Owed::default());
        self.id.take()
    }

    /// Whether changes are of the subscription that goes on, and not of one before.
    pub(super) fn is_joined(&self) -> bool {
        self.progress == Progress::Joined
    }

    /// From when to when the feed was away, at a join again at `now`, in the time of its bars: what
    /// was read last before a cut may have been sent long before.
    pub(super) fn missed(
        &self,
        manager: &BarManager,
        now: Timestamp,
    ) -> Option<(Timestamp, Timestamp)> {
        let from = self.away_since(manager)?;
        let to = self.joined_at(manager.rules().clock, now)?;
        Some((from, to.max(from)))
    }

    /// When the feed is there again, at a join at `now`, in the time of its bars.
    pub(super) fn joined_at(&self, clock: FeedClock, now: Timestamp) -> Option<Timestamp> {
        match clock {
            FeedClock::Event => self.quote.last_time,
            FeedClock::Wall => now.saturating_sub(self.delay()).ok(),
        }
    }

    /// Since when nothing is known for sure.
    pub(super) fn away_since(&self, manager: &BarManager) -> Option<Timestamp> {
        let id = self.id?;
        match manager.rules().clock {
            FeedClock::Event => manager.last_tick(id),
            FeedClock::Wall => self.heard().into_iter().chain(manager.event_time(id)).min(),
        }
    }

    /// When the feed was heard last before a cut on the machine's clock, in the time of its bars:
    /// what people are told, where a symbol without trades is in doubt for longer.
    pub(super) fn heard(&self) -> Option<Timestamp> {
        self.cut_at.and_then(|at| at.saturating_sub(self.delay()).ok())
    }

    fn delay(&self) -> SignedDuration {
        SignedDuration::try_from(self.quote.delay.unwrap_or_default()).unwrap_or_default()
    }

    /// Tells who waits.
    pub(super) fn decide(&mut self, verdict: &Verdict) {
        for waiting in self.waiting.drain(..) {
            // Whoever is gone need not know.
            drop(waiting.send(verdict.clone()));
        }
    }
}
