//! The task that owns a connection's socket: sends what is asked, answers heartbeats, hands what
//! comes to the request it belongs to, and notices when the connection is dead or superfluous.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::link::{Link, Watch};
use super::socket::Socket;
use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::auth::Auth;
use crate::infrastructure::tradingview::errors;
use crate::infrastructure::tradingview::frame::{self, Payload};
use crate::infrastructure::tradingview::message::{self, ChartEvent, Incoming};
use crate::infrastructure::tradingview::reply::Step;

/// A connection's task.
pub(super) struct Actor {
    pub(super) socket: Socket,
    pub(super) link: Link,
    pub(super) backoff: Arc<Backoff>,
    pub(super) auth: Arc<Auth>,
    pub(super) stopping: CancellationToken,
    /// Whether a request was answered on it.
    pub(super) useful: bool,
}

impl Actor {
    /// Serves until the connection ends; then all requests on it have ended, too.
    pub(super) async fn run(mut self) {
        self.socket.enter(Phase::History);
        if let Err(error) = self.serve().await {
            self.ended(error).await;
        }
        self.socket.close().await;
    }

    async fn ended(&self, error: ProviderError) {
        let mut error = error;
        if matches!(error, ProviderError::AuthRequired { .. }) {
            self.auth.refused().await;
        }
        if !self.useful && !self.stopping.is_cancelled() {
            error = self.backoff.failed(error);
        }
        let requests = self.link.close(&error);
        if requests > 0 {
            tracing::warn!(provider = crate::infrastructure::tradingview::PROVIDER, requests, %error, "connection lost");
        } else {
            tracing::debug!(%error, "connection lost while unused");
        }
    }

    async fn serve(&mut self) -> Result<(), ProviderError> {
        let stopping = self.stopping.clone();
        let link = self.link.clone();
        loop {
            let watch = link.watch();
            let (Watch::Dead(deadline) | Watch::Idle(deadline)) = watch;
            tokio::select! {
                () = stopping.cancelled() => return Err(super::stopped()),
                () = link.woken() => {
                    self.socket.send(link.outbox()).await?;
                    if link.retire_unused(false) {
                        return Ok(());
                    }
                }
                received = self.socket.receive() => self.receive(received?).await?,
                () = sleep_until(deadline) => match link.watch() {
                    Watch::Dead(deadline) if deadline <= Instant::now() => {
                        return Err(errors::timeout(Phase::History, link.dead_after()));
                    }
                    Watch::Idle(deadline) if deadline <= Instant::now() => {
                        if link.retire_unused(true) {
                            return Ok(());
                        }
                    }
                    Watch::Dead(_) | Watch::Idle(_) => {}
                },
            }
        }
    }

    async fn receive(&mut self, text: Option<Utf8Bytes>) -> Result<(), ProviderError> {
        self.link.received();
        let mut echoes = Vec::new();
        for payload in frame::decode(text.as_deref().unwrap_or_default()) {
            match payload.map_err(|error| self.socket.broken(&error.to_string()))? {
                Payload::Heartbeat(whole) => echoes.push(whole.to_owned()),
                Payload::Json(json) => self.dispatch(json).await?,
            }
        }
        self.socket.send(echoes).await
    }

    async fn dispatch(&mut self, json: &str) -> Result<(), ProviderError> {
        let incoming = message::parse(json).map_err(|error| {
            tracing::debug!(%error, "unreadable message");
            errors::unavailable(Phase::History, "it sent something that cannot be read")
        })?;
        match incoming {
            Incoming::Hello(_) | Incoming::Other => Ok(()),
            Incoming::ProtocolError(said) => Err(errors::protocol_error(&said, Phase::History)),
            Incoming::Chart { session, event, server_time } => {
                self.note_refusal(&event).await;
                // Of a session that is gone nobody wants to hear.
                let Some(slot) = self.link.chart(&session) else { return Ok(()) };
                let completed = matches!(event, ChartEvent::Completed(_));
                if slot.apply(event, server_time) == Step::Finished && completed {
                    self.useful = true;
                    self.backoff.succeeded();
                }
                Ok(())
            }
        }
    }

    /// A refusal of one session that concerns more than it: new requests need a new connection.
    async fn note_refusal(&self, event: &ChartEvent) {
        let ChartEvent::CriticalError(said) = event else { return };
        let error = errors::critical_error(said, Phase::History);
        match error {
            ProviderError::RateLimited { .. } => {
                self.link.retire();
                self.backoff.failed(error);
            }
            ProviderError::AuthRequired { .. } => {
                self.link.retire();
                self.auth.refused().await;
            }
            ProviderError::Unavailable { .. }
            | ProviderError::Timeout { .. }
            | ProviderError::NotEntitled { .. }
            | ProviderError::SymbolNotFound { .. }
            | ProviderError::NoData { .. } => {}
        }
    }
}
