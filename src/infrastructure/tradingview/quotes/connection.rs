//! One connection of the feed, from its first command to its end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::inbox::{Inbox, Stopped};
use super::message;
use super::outbox::{Outbox, Standing};
use super::subscriptions::Subscriptions;
use crate::infrastructure::interfaces::{FeedEvent, Phase, ProviderError};
use crate::infrastructure::tradingview::PROVIDER;
use crate::infrastructure::tradingview::config::TradingViewConfig;
use crate::infrastructure::tradingview::errors;
use crate::infrastructure::tradingview::frame::{self, FrameError, Payload};
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
        self.confirmed_at.map(|since| self.received_at.duration_since(since)).unwrap_or_default()
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
        let mut told = 0;
        let mut outcome = Ok(());
        for payload in frame::decode(text) {
            match self.take(payload, inbox, outbox).await {
                Ok(events) => told += events,
                Err(interruption) => {
                    outcome = Err(interruption);
                    break;
                }
            }
            if outbox.is_full() {
                outbox.deliver(inbox).await?;
            }
        }
        if told == 0 && outcome.is_ok() {
            outbox.pending.push(FeedEvent::Alive);
        }
        outbox.deliver(inbox).await?;
        // Waiting for the consumer is not the server's silence.
        self.received_at = Instant::now();
        outcome
    }

    /// Takes one frame; answers how many events of symbols it makes.
    async fn take(
        &mut self,
        payload: Result<Payload<'_>, FrameError>,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
    ) -> Result<usize, Interruption> {
        let json = match payload.map_err(|error| self.socket.broken(&error.to_string()))? {
            Payload::Json(json) => json,
            Payload::Heartbeat(whole) => {
                self.confirm(inbox, outbox);
                inbox.attend(self.socket.send(vec![whole.to_owned()])).await??;
                return Ok(0);
            }
        };
        match message::parse(json) {
            Ok(incoming) => {
                self.subscriptions.check(&incoming)?;
                self.confirm(inbox, outbox);
                let before = outbox.pending.len();
                self.subscriptions.apply(incoming, self.received_at, &mut outbox.pending);
                Ok(outbox.pending.len() - before)
            }
            Err(error) if error.is_data() => {
                tracing::debug!(%error, "a message of an unexpected shape");
                Ok(0)
            }
            Err(error) => {
                tracing::debug!(%error, "unreadable message");
                Err(self.socket.broken("it sent something that cannot be read").into())
            }
        }
    }

    /// The server talks to us, so it takes us for who we say we are.
    fn confirm(&mut self, inbox: &Inbox, outbox: &mut Outbox) {
        if self.confirmed_at.is_none() {
            self.confirmed_at = Some(self.received_at);
            tracing::info!(provider = PROVIDER, "the feed is connected");
            self.stand(inbox, outbox);
        }
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
