//! How the feed is, as everybody sees it.

use jiff::Timestamp;

use crate::domain::shared::Symbol;

/// How the connection to the provider is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Stopped, or refused for good.
    #[default]
    Stopped,
    /// Started, and nothing is subscribed.
    Idle,
    /// Connecting for the first time, or looking up what to follow.
    Connecting,
    /// Connected.
    Connected,
    /// The connection failed or was lost, and is tried again.
    Reconnecting,
}

/// How the feed is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedState {
    /// The connection.
    pub connection: Connection,
    /// Since when it stands.
    pub connected_since: Option<Timestamp>,
    /// How often it was re-established.
    pub reconnects: u32,
    /// When the provider last said anything.
    pub last_message_at: Option<Timestamp>,
    /// What went wrong last, and what to do.
    pub last_error: Option<String>,
    /// Whether the provider refused for good: nothing is tried until someone acts.
    pub refused: bool,
    /// Symbols that are followed until told otherwise.
    pub subscriptions: u32,
    /// Symbols that are followed now.
    pub active_symbols: u32,
}

/// What streams say of the feed: news only where one of the two changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedWord {
    /// The connection.
    pub connection: Connection,
    /// What went wrong last, and what to do.
    pub error: Option<String>,
}

/// How a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// No feed, or not confirmed yet.
    Pending,
    /// The provider confirmed it.
    Active,
    /// The provider refused it.
    Error,
}

/// A symbol that is followed until told otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Which.
    pub symbol: Symbol,
    /// How it is.
    pub state: SubscriptionState,
    /// Why the provider refused it.
    pub error: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
}
