//! Keeps the feed up: connects while something is followed, and again after every loss.

use std::sync::Arc;

use tokio::time::sleep_until;

use super::connection::{Connection, Interruption};
use super::inbox::{Inbox, Stopped};
use super::outbox::{Outbox, Standing};
use super::retry::{Pause, Retry, is_terminal};
use crate::infrastructure::interfaces::{FeedState, ProviderError};
use crate::infrastructure::tradingview::PROVIDER;
use crate::infrastructure::tradingview::config::TradingViewConfig;
use crate::infrastructure::tradingview::session::{Dialer, Socket};

/// A running feed.
pub(super) struct Feed {
    config: TradingViewConfig,
    dialer: Arc<Dialer>,
    inbox: Inbox,
    outbox: Outbox,
    retry: Retry,
}

/// Why there is no connection.
struct Failure {
    error: ProviderError,
    /// Trying again changes nothing.
    terminal: bool,
}

impl Feed {
    pub(super) fn new(
        config: TradingViewConfig,
        dialer: Arc<Dialer>,
        inbox: Inbox,
        outbox: Outbox,
    ) -> Self {
        let retry = Retry::new(&config.feed);
        Self { config, dialer, inbox, outbox, retry }
    }

    /// Runs until nobody wants it, or the server refuses who we are. Then the consumer was told
    /// everything.
    pub(super) async fn run(mut self) {
        // Both ways it has ended; the consumer sees it by the queue's end.
        let (Ok(()) | Err(Stopped)) = self.keep_up().await;
    }

    async fn keep_up(&mut self) -> Result<(), Stopped> {
        self.inbox.take_in();
        loop {
            self.wait_for_wishes().await?;
            let Some(connected) = self.connect_when_due().await? else { continue };
            let lost = match connected {
                Ok(connection) => self.serve(connection).await?,
                Err(failure) => Some(failure),
            };
            let Some(Failure { error, terminal }) = lost else { continue };
            if terminal {
                tracing::error!(provider = PROVIDER, %error, "the feed ends: {error}");
                self.outbox.state(FeedState::Terminal { error });
                return self.outbox.deliver(&mut self.inbox).await;
            }
            self.retry.failed(error);
        }
    }

    async fn wait_for_wishes(&mut self) -> Result<(), Stopped> {
        while self.inbox.wishes.is_empty() {
            self.outbox.stands(Standing::Idle);
            self.outbox.deliver(&mut self.inbox).await?;
            self.inbox.absorb().await?;
        }
        Ok(())
    }

    /// Connects after the pause that is due; none where meanwhile nothing is wanted.
    async fn connect_when_due(&mut self) -> Result<Option<Result<Connection, Failure>>, Stopped> {
        match self.retry.pause() {
            None => {
                self.outbox.state(FeedState::Connecting);
                self.outbox.deliver(&mut self.inbox).await?;
            }
            Some(pause) => {
                if !self.sit_out(pause).await? {
                    return Ok(None);
                }
            }
        }
        let connecting = Box::pin(connect(&self.dialer));
        let connected = self.inbox.attend(connecting).await?;
        let config = &self.config;
        Ok(Some(connected.map(|socket| Connection::new(socket, config))))
    }

    /// Waits for the end of `pause`; answers whether something is still wanted.
    async fn sit_out(&mut self, Pause { error, attempt, until }: Pause) -> Result<bool, Stopped> {
        let retry_in = until.saturating_duration_since(tokio::time::Instant::now());
        tracing::warn!(
            provider = PROVIDER, attempt, retry_in_ms = retry_in.as_millis(), %error,
            "the feed is down and tries again: {error}"
        );
        self.outbox.state(FeedState::Reconnecting { error, attempt, retry_in });
        self.outbox.deliver(&mut self.inbox).await?;
        loop {
            if self.inbox.wishes.is_empty() {
                return Ok(false);
            }
            tokio::select! {
                absorbed = self.inbox.absorb() => absorbed?,
                () = sleep_until(until) => return Ok(true),
            }
        }
    }

    /// Serves a connection to its end; answers why it was lost, if it was.
    async fn serve(&mut self, mut connection: Connection) -> Result<Option<Failure>, Stopped> {
        tracing::debug!(provider = PROVIDER, "the feed is connected to {}", self.dialer.host());
        let served = connection.serve(&mut self.inbox, &mut self.outbox).await;
        if served.is_ok() || connection.age() >= self.config.feed.stable_after {
            self.retry.succeeded();
        }
        connection.close().await;
        match served {
            Ok(()) => Ok(None),
            Err(Interruption::Stopped) => Err(Stopped),
            Err(Interruption::Lost(error)) => {
                Ok(Some(Failure::of_connection(error, &self.dialer).await))
            }
        }
    }
}

/// A connection that knows who we are. Each wait inside has its deadline.
async fn connect(dialer: &Dialer) -> Result<Socket, Failure> {
    let token = dialer.auth().token().await.map_err(Failure::of_log_in)?;
    match dialer.dial(&token).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(Failure::of_connection(error, dialer).await),
    }
}

impl Failure {
    fn of_log_in(error: ProviderError) -> Self {
        Self { terminal: is_terminal(&error), error }
    }

    /// A refused token may only have grown old: then a new one is tried, once.
    async fn of_connection(error: ProviderError, dialer: &Dialer) -> Self {
        let terminal = is_terminal(&error) && !dialer.auth().refused().await;
        Self { error, terminal }
    }
}
