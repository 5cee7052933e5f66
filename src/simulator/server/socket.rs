//! One WebSocket: moves messages between the wire and the conversation.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::Host;
use crate::simulator::talk::{Dialogue, Due};

/// The largest message taken from a client.
const MAX_INBOUND: usize = 1024 * 1024;

/// How long a client may take to read one message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait where nothing is due: a dead conversation has no next time.
const IDLE: Duration = Duration::from_secs(3_600);

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
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    host.shared.stats.connections.add(1);
    let shared = Arc::clone(&host.shared);
    // A conversation holds its own state and a large future: it lives on the heap.
    Box::pin(host.stop.clone().run_until_cancelled_owned(exchange(socket, host))).await;
    shared.stats.closed_connections.add(1);
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, host: Host) {
    let mut changes = host.shared.faults.changes();
    let number = host.next_number();
    let mut dialogue = Dialogue::new(Arc::clone(&host.shared), number, Instant::now());
    loop {
        while let Some(due) = dialogue.take(Instant::now()) {
            match send(&mut socket, due).await {
                Step::On => {}
                Step::End => return,
            }
        }
        let wake = dialogue.next_due().unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            message = socket.next(), if dialogue.listens() => match message {
                Some(Ok(Message::Text(text))) => dialogue.hear(&text, Instant::now()),
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                // Pings are answered by the library; binary messages are no part of the protocol.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
            },
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                dialogue.faults_changed(Instant::now());
            }
            () = tokio::time::sleep_until(wake) => {}
        }
    }
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
