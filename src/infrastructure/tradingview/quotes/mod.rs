//! Quotes as they happen: one socket of its own for all symbols, kept up by one task.
//!
//! It does not share the connection of history: that one is replaced when its chart sessions are
//! used up and given up when one request is slow, while this one should live for days; and this
//! one is not read while its consumer is slow, which must not hold up a request for bars. Both
//! share how to connect and the log-in.

mod connection;
mod feed;
mod inbox;
mod message;
mod outbox;
mod retry;
mod subscriptions;
mod values;

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::feed::Feed;
use self::inbox::Inbox;
use super::config::TradingViewConfig;
use super::session::Dialer;
use crate::infrastructure::interfaces::{FeedCommand, FeedEvent};

/// Runs a feed on `tasks` from the first poll of the stream until that is dropped.
pub(super) fn feed(
    config: TradingViewConfig,
    dialer: Arc<Dialer>,
    tasks: TaskTracker,
    stopping: &CancellationToken,
    commands: mpsc::Receiver<FeedCommand>,
) -> BoxStream<'static, FeedEvent> {
    let stopping = stopping.child_token();
    async move {
        let (outbox, received) = outbox::channel();
        let inbox = Inbox::new(commands, stopping.clone());
        tasks.spawn(Feed::new(config, dialer, inbox, outbox).run());
        let dropped = stopping.drop_guard();
        stream::unfold((received, dropped), |(mut received, dropped)| async move {
            let batch = outbox::take(&mut received).await?;
            Some((stream::iter(batch), (received, dropped)))
        })
        .flatten()
    }
    .flatten_stream()
    .boxed()
}

#[cfg(test)]
#[path = "../../../../tests/fuzz/quotes.rs"]
mod fuzz;
