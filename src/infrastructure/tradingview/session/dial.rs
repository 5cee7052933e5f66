//! Opens a connection, phase by phase, each with its deadline: connect, tls, handshake, hello.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, ORIGIN, RETRY_AFTER, USER_AGENT as USER_AGENT_HEADER};
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, handshake};
use tokio_tungstenite::{MaybeTlsStream, client_async_with_config};
use url::{Host, Url};

use super::socket::Socket;
use crate::infrastructure::http_client::retry_after;
use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::auth::Auth;
use crate::infrastructure::tradingview::config::{ConfigError, TradingViewConfig};
use crate::infrastructure::tradingview::frame::{self, Payload};
use crate::infrastructure::tradingview::message::{self, Incoming};
use crate::infrastructure::tradingview::{USER_AGENT, errors};

/// Longest message that is taken; history replies reach 2 MB.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Most that waits to be sent.
const MAX_WRITE_BUFFER_BYTES: usize = 1 << 20;

/// The server's clock in its first message, if it said, and when that came.
pub(in crate::infrastructure::tradingview) type Hello = Option<(Timestamp, Instant)>;

/// Knows where to connect to, and as whom.
pub(in crate::infrastructure::tradingview) struct Dialer {
    url: Url,
    origin: HeaderValue,
    tls: Arc<rustls::ClientConfig>,
    auth: Arc<Auth>,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    hello_timeout: Duration,
}

impl Dialer {
    pub(in crate::infrastructure::tradingview) fn new(
        config: &TradingViewConfig,
        tls: Arc<rustls::ClientConfig>,
        auth: Auth,
    ) -> Result<Self, ConfigError> {
        let within = |timeout: Duration| timeout.min(config.history_timeout);
        Ok(Self {
            url: config.parsed_ws_url()?,
            origin: config.origin_header()?,
            tls,
            auth: Arc::new(auth),
            connect_timeout: within(config.connect_timeout),
            handshake_timeout: within(config.handshake_timeout),
            hello_timeout: within(config.hello_timeout),
        })
    }

    pub(in crate::infrastructure::tradingview) const fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }

    /// The host, which is all of the address that is shown.
    pub(in crate::infrastructure::tradingview) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// A connection that has said hello and was told who we are.
    pub(in crate::infrastructure::tradingview) async fn dial(
        &self,
        token: &SecretString,
    ) -> Result<(Socket, Hello), ProviderError> {
        let stream = phase(Phase::Connect, self.connect_timeout, self.connect()).await?;
        let stream = match self.url.scheme() {
            "wss" => phase(Phase::Tls, self.handshake_timeout, self.encrypt(stream)).await?,
            _ => MaybeTlsStream::Plain(stream),
        };
        let opening = self.open(stream);
        let mut socket = match timeout(self.handshake_timeout, opening).await {
            Ok(opened) => opened?,
            Err(_) => return Err(errors::timeout(Phase::Handshake, self.handshake_timeout)),
        };
        let deadline = Instant::now() + self.hello_timeout;
        let greeted = timeout_at(deadline, greet(&mut socket, token)).await;
        let hello = greeted.map_err(|_| errors::timeout(Phase::Hello, self.hello_timeout))??;
        Ok((socket, hello))
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let port = self.url.port_or_known_default().unwrap_or(443);
        let stream = match self.url.host() {
            Some(Host::Domain(name)) => TcpStream::connect((name, port)).await?,
            Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await?,
            Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await?,
            None => return Err(std::io::ErrorKind::InvalidInput.into()),
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn encrypt(&self, stream: TcpStream) -> std::io::Result<MaybeTlsStream<TcpStream>> {
        let host = self.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        Ok(MaybeTlsStream::Rustls(connector.connect(name, stream).await?))
    }

    async fn open(&self, stream: MaybeTlsStream<TcpStream>) -> Result<Socket, ProviderError> {
        let mut request = self.url.as_str().into_client_request().map_err(|e| refused(&e))?;
        request.headers_mut().insert(ORIGIN, self.origin.clone());
        request.headers_mut().insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES);
        let opened = client_async_with_config(request, stream, Some(config)).await;
        opened.map(|(stream, _)| Socket::new(stream, Phase::Hello)).map_err(|error| refused(&error))
    }
}

/// Waits for the first message and answers with who we are.
async fn greet(socket: &mut Socket, token: &SecretString) -> Result<Hello, ProviderError> {
    let hello = loop {
        let Some(text) = socket.receive().await? else { continue };
        if let Some(hello) = first_message(socket, &text).await? {
            break hello;
        }
    };
    let introduction = vec![
        message::command("set_auth_token", [token.expose_secret()]),
        message::command("set_locale", ["en", "US"]),
    ];
    socket.send(introduction).await?;
    Ok(hello.map(|time| (time, Instant::now())))
}

/// Looks for the hello in a message, answering the heartbeats in it.
async fn first_message(
    socket: &mut Socket,
    text: &str,
) -> Result<Option<Option<Timestamp>>, ProviderError> {
    let mut hello = None;
    for payload in frame::decode(text) {
        match payload.map_err(|error| socket.broken(&error.to_string()))? {
            Payload::Heartbeat(whole) => socket.send(vec![whole.to_owned()]).await?,
            Payload::Json(json) => match message::parse(json) {
                Ok(Incoming::Hello(time)) => hello = hello.or(Some(time)),
                Ok(Incoming::ProtocolError(said)) => {
                    return Err(errors::protocol_error(&said, Phase::Hello));
                }
                Ok(Incoming::Chart { .. } | Incoming::Other) => {}
                Err(_) => return Err(socket.broken("it sent something that cannot be read")),
            },
        }
    }
    Ok(hello)
}

async fn phase<T>(
    phase: Phase,
    patience: Duration,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, ProviderError> {
    match timeout(patience, work).await {
        Ok(done) => done.map_err(|error| errors::unavailable(phase, &error.to_string())),
        Err(_) => Err(errors::timeout(phase, patience)),
    }
}

/// Why the WebSocket was not opened.
fn refused(error: &tungstenite::Error) -> ProviderError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    match error {
        tungstenite::Error::Http(answer) => http_refusal(answer),
        other => errors::unavailable(Phase::Handshake, &other.to_string()),
    }
}

fn http_refusal(answer: &handshake::client::Response) -> ProviderError {
    let status = answer.status();
    if status != http::StatusCode::TOO_MANY_REQUESTS {
        return errors::unavailable(Phase::Handshake, &format!("the server answered {status}"));
    }
    let header = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = header.and_then(|header| retry_after(header, Timestamp::now()));
    errors::rate_limited("too many connections (429)", wait)
}
