//! An open WebSocket: what all who hold one do with it, each wait bounded.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::errors;

/// The longest wait for the socket to take what is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for the server to close, too.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open WebSocket.
pub(in crate::infrastructure::tradingview) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What its failures are told as.
    phase: Phase,
}

impl Socket {
    pub(super) const fn new(
        stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
        phase: Phase,
    ) -> Self {
        Self { stream, phase }
    }

    /// From here on its failures belong to `phase`.
    pub(in crate::infrastructure::tradingview) const fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The next message: its text, or none where it is not for us. Nothing is lost where the wait
    /// is given up.
    pub(in crate::infrastructure::tradingview) async fn receive(
        &mut self,
    ) -> Result<Option<Utf8Bytes>, ProviderError> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Some(text)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => Err(self.broken("it sent something that is no text")),
            Some(Ok(Message::Close(_))) => Err(self.broken("the server closed the connection")),
            Some(Err(error)) => Err(self.broken(&error.to_string())),
            None => Err(self.broken("the connection was cut")),
        }
    }

    /// Sends `texts`, a message each.
    pub(in crate::infrastructure::tradingview) async fn send(
        &mut self,
        texts: Vec<String>,
    ) -> Result<(), ProviderError> {
        if texts.is_empty() {
            return Ok(());
        }
        let stream = &mut self.stream;
        let sending = async {
            for text in texts {
                stream.feed(Message::text(text)).await?;
            }
            stream.flush().await
        };
        match timeout(WRITE_TIMEOUT, sending).await {
            Ok(sent) => sent.map_err(|error| self.broken(&error.to_string())),
            Err(_) => Err(errors::timeout(self.phase, WRITE_TIMEOUT)),
        }
    }

    /// Says goodbye. It ends either way.
    pub(in crate::infrastructure::tradingview) async fn close(&mut self) {
        drop(timeout(CLOSE_TIMEOUT, self.stream.close(None)).await);
    }

    /// The failure that `detail` describes.
    pub(in crate::infrastructure::tradingview) fn broken(&self, detail: &str) -> ProviderError {
        errors::unavailable(self.phase, detail)
    }
}
