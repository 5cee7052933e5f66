//! The live side: the feed, the bars built from it, the newest values, and the streams.
//!
//! One task owns the feed and the bars (`feed_task`); one writes what it decides (`writer`), whether
//! the database is there or not (`backlog`); the `hub` holds what is new, and streams look there.

mod backlog;
mod bar_reader;
mod catch_up;
mod commands;
mod copier;
mod cursor;
mod feed_state;
mod feed_task;
mod follow;
mod hub;
mod job;
mod ledger;
mod meter;
mod pace;
mod queries;
mod quote_error;
mod quote_service;
mod reroll;
mod ring;
mod scribe;
mod shared_subscriptions;
mod snapshot_codec;
mod spool_codec;
mod stored_bars;
mod stream_bars;
mod stream_quotes;
mod watched;
mod wire;
mod writer;

pub use commands::{StartFeed, StopFeed, Subscribe, Unsubscribe};
pub use feed_state::{Connection, FeedState, FeedWord, Subscription, SubscriptionState};
pub use pace::StreamPace;
pub use queries::{
    GetCurrentBar, GetFeedStatus, GetLatestQuote, ListQuotes, ListSubscriptions, NamedQuote,
};
pub use quote_error::QuoteError;
pub use quote_service::{FeedOptions, FeedTrouble, QuoteService, QuoteServiceParts};
pub use stream_bars::{BarEvent, BarEventStream, BarNews, BarsFrom, StreamBars};
pub use stream_quotes::{QuoteNews, QuoteNewsStream, SequencedQuote, StreamQuotes};

use self::commands::FeedCommands;
use self::queries::FeedQueries;
use self::stream_bars::StreamBarsHandler;
use self::stream_quotes::StreamQuotesHandler;
use crate::common::mediator::MediatorBuilder;

/// Adds this slice's handlers.
pub fn register(mediator: MediatorBuilder, service: &QuoteService) -> MediatorBuilder {
    let commands = || FeedCommands { service: service.clone() };
    let queries = || FeedQueries { service: service.clone() };
    mediator
        .register::<StartFeed>(commands())
        .register::<StopFeed>(commands())
        .register::<Subscribe>(commands())
        .register::<Unsubscribe>(commands())
        .register::<GetFeedStatus>(queries())
        .register::<ListSubscriptions>(queries())
        .register::<GetLatestQuote>(queries())
        .register::<ListQuotes>(queries())
        .register::<GetCurrentBar>(queries())
        .register(StreamQuotesHandler { service: service.clone() })
        .register(StreamBarsHandler { service: service.clone() })
}

#[cfg(test)]
pub(in crate::features::market_data) mod test_bench;

#[cfg(test)]
#[path = "../../../../tests/fuzz/live.rs"]
mod fuzz;
