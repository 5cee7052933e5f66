//! Start and stop the feed, follow symbols and let them go.

use super::feed_state::{FeedState, Subscription};
use super::{QuoteError, QuoteService};
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Symbol;

/// Start the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartFeed;

/// Stop the feed, keeping what is forming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopFeed;

/// Follow `symbol` until told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Which.
    pub symbol: Symbol,
}

/// Follow `symbol` no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Which.
    pub symbol: Symbol,
}

impl Request for StartFeed {
    /// How the feed is, and whether it was started before.
    type Output = (FeedState, bool);
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.start_feed";
}

impl Request for StopFeed {
    /// How the feed is, and whether it was stopped before.
    type Output = (FeedState, bool);
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.stop_feed";
}

impl Request for Subscribe {
    type Output = Subscription;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.subscribe";
}

impl Request for Unsubscribe {
    type Output = Subscription;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.unsubscribe";
}

/// Carries out all four.
pub(super) struct FeedCommands {
    pub(super) service: QuoteService,
}

impl Handler<StartFeed> for FeedCommands {
    async fn handle(&self, _: StartFeed) -> Result<(FeedState, bool), QuoteError> {
        self.service.start().await
    }
}

impl Handler<StopFeed> for FeedCommands {
    async fn handle(&self, _: StopFeed) -> Result<(FeedState, bool), QuoteError> {
        self.service.stop().await
    }
}

impl Handler<Subscribe> for FeedCommands {
    async fn handle(&self, command: Subscribe) -> Result<Subscription, QuoteError> {
        self.service.subscribe(command.symbol).await
    }
}

impl Handler<Unsubscribe> for FeedCommands {
    async fn handle(&self, command: Unsubscribe) -> Result<Subscription, QuoteError> {
        self.service.unsubscribe(command.symbol).await
    }
}
