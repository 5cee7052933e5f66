//! One WebSocket: moves messages between the wire and the conversation.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::Host;
use crate::simulator::talk::{Dialogue, Due};

/// The largest message taken from a client.
const MAX_INBOUND: usize = 1024 * 1024;

/// How long a client may take to read one message.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a client may take to hear that the server stops.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait where nothing is due: a dead conversation has no next time.
const IDLE: Duration = Duration::from_hours(1);

/// Why a conversation goes on or ends.
enum Step {
    On,
    End,
}

/// Converses over `stream` until either side ends it, or the server stops.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, host: Host) {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MAX_INBOUND);
    config.max_frame_size = Some(MAX_INBOUND);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    host.shared.stats.connections.add(1);
    // A conversation is a large future: it lives on the heap.
    let conversation = Box::pin(exchange(&mut socket, &host));
    if host.stop.run_until_cancelled(conversation).await.is_none() {
        let goodbye = tokio::time::timeout(GOODBYE_TIMEOUT, socket.close(None)).await;
        tracing::trace!(said = goodbye.is_ok(), "the server stops");
    }
    host.shared.stats.closed_connections.add(1);
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, host: &Host) {
    let mut switches = host.shared.faults.changes();
    let mut happenings = host.shared.world.pulse().happenings();
    let number = host.next_number();
    let mut dialogue = Dialogue::new(Arc::clone(&host.shared), number, Instant::now());
    loop {
        while let Some(due) = dialogue.take(Instant::now()) {
            match send(socket, due).await {
                Step::On => {}
                Step::End => return,
            }
            // Where there is always more to send, the client would never be heard.
            while dialogue.listens()
                && let Some(message) = socket.next().now_or_never()
            {
                match hear(message, &mut dialogue) {
                    Step::On => {}
                    Step::End => return,
                }
            }
        }
        let wake = dialogue.next_due().unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            message = socket.next(), if dialogue.listens() => match hear(message, &mut dialogue) {
                Step::On => {}
                Step::End => return,
            },
            happened = happenings.changed(), if dialogue.is_live() => {
                if happened.is_err() {
                    return;
                }
                dialogue.something_happened();
            }
            changed = switches.changed() => {
                if changed.is_err() {
                    return;
                }
                dialogue.faults_changed(Instant::now());
            }
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

fn hear(message: Option<Result<Message, tungstenite::Error>>, dialogue: &mut Dialogue) -> Step {
    match message {
        Some(Ok(Message::Text(text))) => dialogue.hear(&text, Instant::now()),
        Some(Ok(Message::Close(_)) | Err(_)) | None => return Step::End,
        // Pings are answered by the library; binary messages are no part of the protocol.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
    }
    Step::On
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    due: Due,
) -> Step {
    let text = match due {
        Due::Message(text) => text,
        Due::Cut | Due::Death => return Step::End,
    };
    match tokio::time::timeout(WRITE_TIMEOUT, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Step::On,
        Ok(Err(_)) | Err(_) => Step::End,
    }
}
