//! What happens now: quotes, as they change.

use std::fmt;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::ProviderError;
use crate::domain::quote::QuoteUpdate;
use crate::domain::shared::Symbol;

/// What a running feed is told. Many in a row cost no more than their outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedCommand {
    /// Follow this symbol. Nothing happens where it is followed already; after a
    /// [`Remove`](Self::Remove) it begins with a new snapshot.
    Add(Symbol),
    /// Follow it no longer. What was on its way may still arrive.
    Remove(Symbol),
}

/// Whether the feed delivers.
#[derive(Clone, Debug)]
pub enum FeedState {
    /// Nothing is followed, so nothing needs a connection.
    Idle,
    /// Connecting for the first time.
    Connecting,
    /// The provider listens to us and talks to us.
    Connected,
    /// Connecting failed, or the connection was lost; it is tried again without being asked.
    Reconnecting {
        /// What happened.
        error: ProviderError,
        /// Which try in a row the next one is, from 1.
        attempt: u32,
        /// When it begins.
        retry_in: Duration,
    },
    /// The provider refuses who we are. Nothing is tried again and the feed ends.
    Terminal {
        /// What it said and what to provide.
        error: ProviderError,
    },
}

/// What an update is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateKind {
    /// What was so when following began: no trade happens by it. A snapshot may have several
    /// parts, and what none of them names has no value.
    Snapshot,
    /// Something changed.
    Change,
}

/// What a feed tells.
#[derive(Clone, Debug)]
pub enum FeedEvent {
    /// Whether it delivers, whenever that changes.
    State(FeedState),
    /// Values of one symbol.
    Update {
        /// Whose.
        symbol: Symbol,
        /// The values that were named.
        update: QuoteUpdate,
        /// Of a snapshot, or a change.
        kind: UpdateKind,
    },
    /// All of a symbol's snapshot was told; what follows are changes.
    SnapshotComplete {
        /// Whose.
        symbol: Symbol,
    },
    /// The provider refuses a symbol; all others go on. It is asked for again after a reconnect,
    /// or when it is removed and added again.
    SymbolError {
        /// Which symbol.
        symbol: Symbol,
        /// Why.
        error: ProviderError,
    },
    /// The provider said something that concerns no symbol, such as a heartbeat.
    Alive,
}

/// Follows quotes.
pub trait QuoteProvider: fmt::Debug + Send + Sync {
    /// The provider's name in answers and logs, such as `tradingview`.
    fn name(&self) -> &'static str;

    /// Follows what `commands` ask for; connects when the stream is first polled and something is
    /// followed.
    ///
    /// - Everything followed is followed again after a reconnect, without anybody asking.
    /// - The updates of a symbol from each (re)subscription up to its
    ///   [`SnapshotComplete`](FeedEvent::SnapshotComplete) are parts of a snapshot. A change of a
    ///   symbol that has had no snapshot since it was added belongs to an earlier subscription.
    /// - Updates come in the provider's order and none is left out while connected: a consumer that
    ///   is slow slows the reading down. If the provider ends the connection because of that, a
    ///   [`Reconnecting`](FeedState::Reconnecting) says so, after all that came before.
    /// - Commands are taken at any time, also while nobody takes events.
    /// - It ends after [`Terminal`](FeedState::Terminal), when `commands` is closed, when the
    ///   service stops, and when the stream is dropped.
    fn feed(&self, commands: mpsc::Receiver<FeedCommand>) -> BoxStream<'static, FeedEvent>;
}
