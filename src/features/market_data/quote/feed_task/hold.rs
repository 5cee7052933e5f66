//! Where nothing more can be kept, nothing is taken: the connection is let go, and what it would
//! have said is an outage like any other, that is fetched again once there is room.
//!
//! To leave it open and unread would not do: the provider merges what a slow reader does not take,
//! and nobody would know of which time.

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::followed::Progress;
use super::{FeedTask, Link};
use crate::domain::shared::Symbol;
use crate::features::market_data::quote::feed_state::Connection;
use crate::infrastructure::interfaces::FeedCommand;

/// Commands that the provider has not taken at most, where it is told of no more symbols at once.
const PROVIDER_COMMANDS: usize = 4_096;

const NO_ROOM: &str =
    "the database is away and there is no more room for bars that wait; see SPOOL_MAX_SIZE";

impl FeedTask {
    /// Keeps the connection only while there is room for what comes of it.
    pub(super) async fn hold(&mut self, has_room: bool) {
        match (has_room, &self.link) {
            (false, Some(_)) => self.let_go().await,
            (true, None) if self.started => {
                info!("there is room for bars again: the feed connects");
                self.connect();
                self.begin_all();
            }
            (true, _) | (false, None) => {}
        }
    }

    /// A new connection, for what was confirmed before, too.
    pub(super) fn connect(&mut self) {
        let (commands, received) = mpsc::channel(PROVIDER_COMMANDS.max(self.symbols.len()));
        for (symbol, followed) in &self.symbols {
            if matches!(followed.progress, Progress::Joining | Progress::Joined) {
                // There is a place for each.
                drop(commands.try_send(FeedCommand::Add(symbol.clone())));
            }
        }
        self.link = Some(Link::new(commands, self.parts.quotes.feed(received)));
        self.link_is_idle = true;
    }

    /// Looks up all that waits for it.
    pub(super) fn begin_all(&mut self) {
        let followed: Vec<Symbol> = self.symbols.keys().cloned().collect();
        for symbol in followed {
            self.begin(&symbol);
        }
    }

    async fn let_go(&mut self) {
        warn!("the feed lets go of its connection: {NO_ROOM}");
        (self.link, self.link_is_idle) = (None, false);
        self.tell_down(NO_ROOM.to_owned());
        self.lost().await;
        self.hub.put_feed(|feed| {
            (feed.connection, feed.connected_since) = (Connection::Reconnecting, None);
            feed.last_error = Some(NO_ROOM.to_owned());
        });
    }
}
