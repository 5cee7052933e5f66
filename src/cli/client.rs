//! Calls to a running server: where it is, how long a call may take, what it is called.

use std::env;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http::Uri;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;

use super::failure::{CallError, Unreachable, UsageMistake};
use super::times::parse_duration;
use crate::common::constants::HEADER_CORRELATION_ID;
use crate::common::identity::ApiKey;
use crate::common::tracing::CorrelationId;
use crate::proto::v1::market_data_client::MarketDataClient;
use crate::proto::v1::quote_stream_client::QuoteStreamClient;
use crate::proto::v1::system_client::SystemClient;

const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
const KEY_VARIABLE: &str = "POCKETQUANT_API_KEY";
const SERVER_VARIABLE: &str = "POCKETQUANT_SERVER";
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent server is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// How much later than the server we give up ourselves, so that its own answer arrives.
const PATIENCE: Duration = Duration::from_millis(500);

/// Which server, and how to call it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of the commands that call a server")]
pub(super) struct ClientOptions {
    // Options may stand before the command or after it, so clap cannot know which default holds.
    #[arg(
        long,
        value_name = "URL",
        value_parser = parse_server,
        help = format!("The server [env: {SERVER_VARIABLE}] [default: {DEFAULT_SERVER}]")
    )]
    server: Option<Uri>,
    /// PEM certificates to trust besides the public ones, for https
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our own PEM certificate, where the server asks for one
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    // Others can read a command line, so the variable is the better place. It is read later: clap
    // shows what it refuses.
    #[arg(
        long,
        value_name = "KEY",
        allow_hyphen_values = true,
        help = format!("The API key, where the server asks for one; better in [env: {KEY_VARIABLE}]")
    )]
    api_key: Option<SecretString>,
    /// Longest time that a call may take, e.g. `30s`; sent to the server as its deadline
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// The id that the server's log lines of these calls will carry
    #[arg(long, value_name = "ID", value_parser = parse_correlation_id)]
    correlation_id: Option<MetadataValue<Ascii>>,
}

impl ClientOptions {
    /// Calls to the server at `address`, without encryption.
    pub(super) fn to(address: SocketAddr) -> Result<Self, UsageMistake> {
        let server = parse_server(&address.to_string()).map_err(UsageMistake)?;
        Ok(Self { server: Some(server), ..Self::default() })
    }

    /// These, and where one is not given that of `outer`: options may stand before the command.
    pub(super) fn or(self, outer: Self) -> Self {
        Self {
            server: self.server.or(outer.server),
            tls_ca: self.tls_ca.or(outer.tls_ca),
            tls_cert: self.tls_cert.or(outer.tls_cert),
            tls_key: self.tls_key.or(outer.tls_key),
            api_key: self.api_key.or(outer.api_key),
            timeout: self.timeout.or(outer.timeout),
            correlation_id: self.correlation_id.or(outer.correlation_id),
        }
    }

    /// The same, where no time is given with `timeout`.
    pub(super) fn or_timeout(self, timeout: Duration) -> Self {
        Self { timeout: self.timeout.or(Some(timeout)), ..self }
    }

    /// Refuses any of these before a command that calls no server.
    pub(super) fn refuse_given(&self) -> Result<(), UsageMistake> {
        let Self { server, tls_ca, tls_cert, tls_key, api_key, timeout, correlation_id } = self;
        let given = [
            ("--server", server.is_some()),
            ("--tls-ca", tls_ca.is_some()),
            ("--tls-cert", tls_cert.is_some()),
            ("--tls-key", tls_key.is_some()),
            ("--api-key", api_key.is_some()),
            ("--timeout", timeout.is_some()),
            ("--correlation-id", correlation_id.is_some()),
        ];
        match given.iter().find(|each| each.1) {
            Some((name, _)) => {
                Err(UsageMistake(format!("`{name}` is for the commands that call a server")))
            }
            None => Ok(()),
        }
    }

    fn server(&self) -> Result<Uri, UsageMistake> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        let variable = env::var(SERVER_VARIABLE).ok().filter(|value| !value.is_empty());
        let text = variable.as_deref().unwrap_or(DEFAULT_SERVER);
        parse_server(text)
            .map_err(|error| UsageMistake(format!("{SERVER_VARIABLE} is `{text}`: {error}")))
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        let tls = ClientTlsConfig::new().trust_anchors(roots);
        let tls = match &self.tls_ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(pem(path)?)),
            None => tls,
        };
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(tls),
            (Some(cert), Some(key)) => Ok(tls.identity(Identity::from_pem(pem(cert)?, pem(key)?))),
            (Some(_), None) | (None, Some(_)) => {
                let mistake = "--tls-cert and --tls-key belong together".to_owned();
                Err(UsageMistake(mistake).into())
            }
        }
    }

    fn api_key(&self) -> Result<Option<BearerToken>, UsageMistake> {
        let variable = || env::var(KEY_VARIABLE).ok().filter(|value| !value.is_empty());
        let (place, key) = match &self.api_key {
            Some(key) => ("--api-key", Some(key.expose_secret().to_owned())),
            None => (KEY_VARIABLE, variable()),
        };
        let key = key.map(|text| parse_api_key(&text)).transpose();
        key.map_err(|error| UsageMistake(format!("{place}: {error}")))
    }
}

fn pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// What the header `authorization` says. It does not print.
#[derive(Clone, Debug)]
struct BearerToken(MetadataValue<Ascii>);

/// Reads an API key; what it says of a wrong one repeats nothing of it.
fn parse_api_key(text: &str) -> Result<BearerToken, String> {
    let wrong = || "it is no API key: `ID.SECRET`, as `pocketquant keys new` prints it".to_owned();
    let key = ApiKey::parse(text.trim()).ok_or_else(wrong)?;
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {}", key.expose()).parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(BearerToken(value))
}

/// Reads where a server is; `HOST:PORT` alone is http.
fn parse_server(text: &str) -> Result<Uri, String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = full.parse().map_err(|_| "it is not `http://HOST:PORT`".to_owned())?;
    let bare = matches!(uri.path_and_query().map_or("/", |each| each.as_str()), "" | "/");
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() && bare => Ok(uri),
        _ => Err("it is not `http://HOST:PORT` or `https://HOST:PORT`".to_owned()),
    }
}

fn parse_correlation_id(text: &str) -> Result<MetadataValue<Ascii>, String> {
    let id = CorrelationId::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    id.as_str().parse().map_err(|_| "it cannot be sent in a header".to_owned())
}

/// A connection to a server.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
    timeout: Option<Duration>,
    correlation_id: Option<MetadataValue<Ascii>>,
    api_key: Option<BearerToken>,
}

impl Client {
    /// Connects. What keeps it from that says what to do.
    pub(super) async fn connect(options: ClientOptions) -> anyhow::Result<Self> {
        let (server, api_key) = (options.server()?, options.api_key()?);
        let name = server.to_string().trim_end_matches('/').to_owned();
        let within = options.timeout.map_or(CONNECT_TIMEOUT, |each| each.min(CONNECT_TIMEOUT));
        let encrypted = server.scheme_str() == Some("https");
        let mut endpoint = Endpoint::from(server)
            .user_agent(concat!("pocketquant/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(within)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        if encrypted {
            endpoint = endpoint.tls_config(options.tls()?)?;
        }
        // A name that resolves slowly and a silent TLS handshake count too.
        let connected = timeout(within, endpoint.connect()).await;
        let channel = connected
            .map_err(|_| {
                let reason = format!("no answer within {}", humantime::format_duration(within));
                Unreachable::silent(name.clone(), reason)
            })?
            .map_err(|error| Unreachable::failed(name.clone(), &error))?;
        let ClientOptions { timeout, correlation_id, .. } = options;
        Ok(Self { channel, timeout, correlation_id, api_key })
    }

    /// The service of history.
    pub(super) fn market_data(&self) -> MarketDataClient<Channel> {
        MarketDataClient::new(self.channel.clone())
    }

    /// The service of quotes and live bars.
    pub(super) fn quotes(&self) -> QuoteStreamClient<Channel> {
        QuoteStreamClient::new(self.channel.clone())
    }

    /// The service about the server.
    pub(super) fn system(&self) -> SystemClient<Channel> {
        SystemClient::new(self.channel.clone())
    }

    /// The service of probes.
    pub(super) fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// `message` with the deadline, the id and the key of these calls.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if let Some(id) = &self.correlation_id {
            request.metadata_mut().insert(HEADER_CORRELATION_ID, id.clone());
        }
        if let Some(BearerToken(value)) = &self.api_key {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }

    /// The answer to a call.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        self.response(call).await.map(Response::into_inner)
    }

    /// The answer to a call, with its metadata.
    pub(super) async fn response<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, CallError> {
        Box::pin(self.in_time(call)).await?.map_err(|status| self.error(&status))
    }

    /// The next message of a stream; nothing at its end.
    pub(super) async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, CallError> {
        self.in_time(stream.message()).await?.map_err(|status| self.error(&status))
    }

    async fn in_time<T>(&self, call: impl Future<Output = T>) -> Result<T, CallError> {
        match self.timeout {
            None => Ok(call.await),
            Some(limit) => timeout(limit.saturating_add(PATIENCE), call)
                .await
                .map_err(|_| CallError::timed_out(self.timeout)),
        }
    }

    fn error(&self, status: &Status) -> CallError {
        CallError::new(status, self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_or_a_host_and_a_port() {
        let uri = |text| parse_server(text).map(|uri| uri.to_string());
        assert_eq!(uri("localhost:50051").unwrap(), "http://localhost:50051/");
        assert_eq!(uri("https://a.example").unwrap(), "https://a.example/");
        assert_eq!(uri("http://[::1]:7").unwrap(), "http://[::1]:7/");
        for text in ["ftp://a", "http://", "http://a/path", "", "http://a b"] {
            assert!(parse_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_after_the_command_beat_those_before_it() {
        let of = |server: &str| ClientOptions {
            server: Some(parse_server(server).unwrap()),
            ..ClientOptions::default()
        };
        let merged = of("http://inner:1").or(of("http://outer:1"));
        assert_eq!(merged.server().unwrap().host(), Some("inner"));
        let merged = ClientOptions::default().or(of("http://outer:1"));
        assert_eq!(merged.server().unwrap().host(), Some("outer"));
        assert!(of("http://outer:1").refuse_given().is_err());
        assert!(ClientOptions::default().refuse_given().is_ok());
    }
}
