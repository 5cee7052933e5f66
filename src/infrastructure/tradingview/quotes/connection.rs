//! One connection of the feed, from its first command to its end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::inbox::{Inbox, Stopped};
use super::message;
use super::outbox::{Outbox, Standing};
use super::subscriptions::Subscriptions;
use crate::infrastructure::interfaces::{FeedEvent, Phase, ProviderError};
use crate::infrastructure::tradingview::config::TradingViewConfig;
use crate::infrastructure::tradingview::errors;
use crate::infrastructure::tradingview::frame::{self, Payload};
use crate::infrastructure::tradingview::session::Socket;

/// Why a connection ended before its time.
#[derive(Debug)]
pub(super) enum Interruption {
    /// Nobody wants it any more.
    Stopped,
    /// It failed.
    Lost(ProviderError),
}

/// An open connection.
pub(super) struct Connection {
    socket: Socket,
    subscriptions: Subscriptions,
    /// Since when the server talks to us: a refused token shows only then.
    confirmed_at: Option<Instant>,
    received_at: Instant,
    unused_since: Option<Instant>,
    /// Not before then more is told: the server is given time between messages.
    tell_at: Instant,
    dead_after: Duration,
    idle_after: Duration,
    chunk_pause: Duration,
}

impl Connection {
    pub(super) fn new(mut socket: Socket, config: &TradingViewConfig) -> Self {
        socket.enter(Phase::Quotes);
        let now = Instant::now();
        Self {
            socket,
            subscriptions: Subscriptions::new(config.feed.snapshot_timeout),
            confirmed_at: None,
            received_at: now,
            unused_since: None,
            tell_at: now,
            dead_after: config.dead_after,
            idle_after: config.idle_after,
            chunk_pause: config.feed.chunk_pause,
        }
    }

    /// Serves until the connection is lost, was unused for long, or nobody wants the feed.
    /// Everything that came before its end was delivered then.
    pub(super) async fn serve(
        &mut self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
    ) -> Result<(), Interruption> {
        inbox.wishes.forget_told();
        inbox.attend(self.socket.send(self.subscriptions.opening())).await??;
        loop {
            self.stand(inbox, outbox);
            outbox.deliver(inbox).await?;
            let wake_at = self.wake_at();
            let tell_at = self.tell_at;
            let telling = inbox.wishes.has_changes();
            tokio::select! {
                absorbed = inbox.absorb() => absorbed?,
                received = self.socket.receive() => {
                    self.received_at = Instant::now();
                    let text = received?;
                    let text = text.as_deref().unwrap_or_default();
                    self.read(text, inbox, outbox).await?;
                }
                () = sleep_until(tell_at), if telling => self.tell(inbox).await?,
                () = sleep_until(wake_at) => {
                    let now = Instant::now();
                    if self.received_at + self.dead_after <= now {
                        return Err(errors::timeout(Phase::Quotes, self.dead_after).into());
                    }
                    self.subscriptions.end_overdue(now, &mut outbox.pending);
                    if self.unused_since.is_some_and(|since| since + self.idle_after <= now) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// For how long the server has talked to us.
    pub(super) fn age(&self) -> Duration {
        self.confirmed_at.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Says goodbye.
    pub(super) async fn close(&mut self) {
        self.socket.close().await;
    }

    /// Notes whether it is used, and tells it.
    fn stand(&mut self, inbox: &Inbox, outbox: &mut Outbox) {
        if inbox.wishes.is_empty() {
            self.unused_since.get_or_insert_with(Instant::now);
            outbox.stands(Standing::Idle);
        } else {
            self.unused_since = None;
            if self.confirmed_at.is_some() {
                outbox.stands(Standing::Connected);
            }
        }
    }

    /// When to look at the clock next.
    fn wake_at(&self) -> Instant {
        let dead = self.received_at + self.dead_after;
        let unused = self.unused_since.map(|since| since + self.idle_after);
        [self.subscriptions.deadline(), unused].into_iter().flatten().fold(dead, Instant::min)
    }

    async fn tell(&mut self, inbox: &mut Inbox) -> Result<(), Interruption> {
        let commands = self.subscriptions.next_commands(&mut inbox.wishes);
        if !commands.is_empty() {
            inbox.attend(self.socket.send(commands)).await??;
            self.tell_at = Instant::now() + self.chunk_pause;
        }
        Ok(())
    }

    /// Answers the heartbeats in a message and delivers all else in it together. What stands
    /// before something unreadable is delivered, too.
    async fn read(
        &mut self,
        text: &str,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
    ) -> Result<(), Interruption> {
        let mut echoes = Vec::new();
        let mut said = Vec::new();
        let outcome = self.understand(text, &mut echoes, &mut said);
        inbox.attend(self.socket.send(echoes)).await??;
        if outcome.is_ok() && !text.is_empty() && self.confirmed_at.is_none() {
            self.confirmed_at = Some(self.received_at);
            self.stand(inbox, outbox);
        }
        if said.is_empty() && outcome.is_ok() {
            said.push(FeedEvent::Alive);
        }
        outbox.pending.append(&mut said);
        outbox.deliver(inbox).await?;
        // Waiting for the consumer is not the server's silence.
        self.received_at = Instant::now();
        Ok(outcome?)
    }

    fn understand(
        &mut self,
        text: &str,
        echoes: &mut Vec<String>,
        events: &mut Vec<FeedEvent>,
    ) -> Result<(), ProviderError> {
        for payload in frame::decode(text) {
            match payload.map_err(|error| self.socket.broken(&error.to_string()))? {
                Payload::Heartbeat(whole) => echoes.push(whole.to_owned()),
                Payload::Json(json) => match message::parse(json) {
                    Ok(incoming) => {
                        self.subscriptions.apply(incoming, self.received_at, events)?;
                    }
                    Err(error) if error.is_data() => {
                        tracing::debug!(%error, "a message of an unexpected shape");
                    }
                    Err(error) => {
                        tracing::debug!(%error, "unreadable message");
                        return Err(self.socket.broken("it sent something that cannot be read"));
                    }
                },
            }
        }
        Ok(())
    }
}

impl From<Stopped> for Interruption {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<ProviderError> for Interruption {
    fn from(error: ProviderError) -> Self {
        Self::Lost(error)
    }
}
