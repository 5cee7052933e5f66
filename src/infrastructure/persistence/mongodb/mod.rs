//! MongoDB, 4.4 and newer: documents as an existing PocketQuant database has them.
//!
//! Every command runs in a task of its own and its handle is awaited: dropping a driver future
//! midway is unsafe (RUST-937), and callers go away. Writes are acknowledged by a majority.

mod bar_log;
mod bar_log_write;
mod connections;
mod coverage;
mod decode;
mod feed_state;
mod idempotency;
mod job_runs;
mod leases;
mod ohlcv;
mod ohlcv_write;
mod presence;
mod schema;
mod subscriptions;
mod symbols;
mod sync_status;
mod syncs;
mod webhook_outbox;
mod webhooks;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::{CommandError, Error, ErrorKind, WriteFailure};
use mongodb::event::EventHandler;
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub(super) use bar_log::BarLog;
use connections::Connections;
pub(super) use coverage::Coverage;
pub(super) use feed_state::FeedState;
pub(super) use idempotency::Idempotency;
pub(super) use job_runs::JobRuns;
pub(super) use ohlcv::Ohlcv;
use presence::Presence;
pub(super) use subscriptions::Subscriptions;
pub(super) use symbols::Symbols;
pub(super) use sync_status::SyncStatuses;
pub(super) use syncs::Syncs;
pub(super) use webhook_outbox::WebhookOutbox;
pub(super) use webhooks::Webhooks;

use super::DatabaseError;
use crate::common::tracing::in_current_context;

/// The engine's name in answers and logs.
pub(super) const ENGINE: &str = "mongodb";

/// The provider of what is stored; absent reads as this too.
const PROVIDER: &str = "tradingview";

/// How long a server is looked for, and connected to. Where none was found for this long, commands
/// are refused at once: they would only wait for the same.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the driver asks each server whether it is there.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a command may take that reads a whole index, or builds one.
const LONG_DEADLINE: Duration = Duration::from_mins(2);

/// How long a command whose caller has given up may go on before its connection is closed.
const ABANDONED_LIMIT: Duration = Duration::from_secs(20);

/// A connected server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct MongoDb {
    client: Client,
    database: mongodb::Database,
    tasks: TaskTracker,
    connections: Arc<Connections>,
    presence: Arc<Presence>,
    /// Held by whoever appends to the bar log.
    log_turn: Arc<Mutex<bar_log_write::Turn>>,
}

impl MongoDb {
    /// Connects to the server at `url` and brings `database` up to date.
    pub(super) async fn connect(
        url: &SecretString,
        database: &str,
        pool: RangeInclusive<u32>,
        tasks: TaskTracker,
    ) -> Result<Self, DatabaseError> {
        let mut options = options(url, pool).await?;
        let connections = Arc::<Connections>::default();
        let counted = Arc::clone(&connections);
        options.cmap_event_handler =
            Some(EventHandler::callback(move |event| counted.count(&event)));
        let presence = Arc::<Presence>::default();
        let updated = Arc::clone(&presence);
        options.sdam_event_handler =
            Some(EventHandler::callback(move |event| updated.update(&event)));
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let hosts = hosts.join(", ");
        let client = Client::with_options(options).map_err(|error| start_error(&hosts, &error))?;
        let database = client.database(database);
        let engine =
            Self { database, client, tasks, connections, presence, log_turn: Arc::default() };
        engine.try_ping().await?.map_err(|error| start_error(&hosts, &error))?;
        schema::ensure(&engine).await?;
        Ok(engine)
    }

    pub(super) async fn ping(&self) -> Result<(), DatabaseError> {
        self.try_ping().await?.map(|_| ()).map_err(|error| database_error(&error))
    }

    /// Connections in use, and idle.
    pub(super) fn connections(&self) -> (u32, u32) {
        self.connections.counted()
    }

    pub(super) async fn close(&self) {
        let closed = timeout(DEADLINE, self.client.clone().shutdown()).await;
        if closed.is_err() {
            tracing::warn!("connections to MongoDB were still in use when they were closed");
        }
    }

    async fn try_ping(&self) -> Result<Result<Document, Error>, DatabaseError> {
        let database = self.database.clone();
        let ping = async move { Ok(database.run_command(doc! { "ping": 1 }).await) };
        self.run(SELECTION_TIMEOUT + Duration::from_secs(2), ping).await
    }

    fn raw(&self, collection: &str) -> Collection<RawDocumentBuf> {
        self.database.collection(collection)
    }

    fn documents(&self, collection: &str) -> Collection<Document> {
        self.database.collection(collection)
    }

    /// Runs `command` in a tracked task and waits for it until `deadline` is over; not at all where
    /// the server is away.
    async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        command: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        if self.presence.is_missing_for(SELECTION_TIMEOUT) {
            return Err(DatabaseError::unavailable(ENGINE, "no server takes commands"));
        }
        let too_slow =
            || DatabaseError::unavailable(ENGINE, format!("no answer within {deadline:?}"));
        let command = in_current_context(timeout(deadline + ABANDONED_LIMIT, command));
        let task = self.tasks.spawn(command);
        match timeout(deadline, task).await {
            Ok(Ok(Ok(result))) => result,
            Ok(Ok(Err(_))) | Err(_) => Err(too_slow()),
            Ok(Err(error)) => Err(DatabaseError::refused(ENGINE, format!("a call broke: {error}"))),
        }
    }

    /// Runs `work`, which may be many commands, to its end, whatever becomes of the caller.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let broken = |error| Err(DatabaseError::refused(ENGINE, format!("a call broke: {error}")));
        self.tasks.spawn(in_current_context(work)).await.unwrap_or_else(broken)
    }
}

async fn options(
    url: &SecretString,
    pool: RangeInclusive<u32>,
) -> Result<ClientOptions, DatabaseError> {
    const REMEDY: &str = "set MONGODB_URL to mongodb://HOST:PORT, or to mongodb+srv://HOST";
    let text = url.expose_secret();
    let parsed = timeout(DEADLINE, ClientOptions::parse(text)).await;
    let mut options = parsed
        .map_err(|_| DatabaseError::config("the name in MONGODB_URL was not resolved", REMEDY))?
        .map_err(|error| {
            // The driver quotes parts of what it cannot read: not where there may be a password.
            let detail = if text.contains('@') { String::new() } else { format!(": {error}") };
            DatabaseError::config(format!("MONGODB_URL cannot be read{detail}"), REMEDY)
        })?;
    if pool.is_empty() || *pool.end() == 0 {
        return Err(DatabaseError::config(
            format!("a pool of {} to {} connections is none", pool.start(), pool.end()),
            "set MONGODB_MIN_POOL_SIZE at most to MONGODB_MAX_POOL_SIZE, and that to 16 or more",
        ));
    }
    options.app_name.get_or_insert_with(|| "pocketquant".to_owned());
    options.connect_timeout.get_or_insert(SELECTION_TIMEOUT);
    options.heartbeat_freq.get_or_insert(HEARTBEAT_EVERY);
    options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
    options.min_pool_size = Some(*pool.start());
    options.max_pool_size = Some(*pool.end());
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).w_timeout(DEADLINE).build();
    options.write_concern = Some(concern);
    // What was written is compared with what is fetched next: never with an older copy.
    options.read_concern = Some(ReadConcern::local());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    Ok(options)
}

/// Why a server at `hosts` cannot be used.
fn start_error(hosts: &str, error: &Error) -> DatabaseError {
    let refused = matches!(*error.kind, ErrorKind::Authentication { .. })
        || code(error).is_some_and(|code| UNAUTHORIZED.contains(&code));
    if refused {
        return DatabaseError::config(
            format!("MongoDB at {hosts} refused the log-in"),
            "check the user, the password and `authSource` in MONGODB_URL",
        );
    }
    DatabaseError::config(
        format!("MongoDB at {hosts} did not answer: {}", first_line(error)),
        "check that it runs and that MONGODB_URL names it, or unset MONGODB_URL to use the \
         embedded database",
    )
}

/// The server's `Unauthorized` and `AuthenticationFailed`.
const UNAUTHORIZED: [i32; 2] = [13, 18];

/// Codes that pass: a server that stops, steps down, is overloaded, out of space or too slow.
/// From the server's `error_codes.yml`.
const TRANSIENT: [i32; 25] = [
    6, 7, 24, 43, 50, 64, 89, 91, 112, 133, 134, 175, 189, 202, 234, 237, 262, 290, 317, 358, 9001,
    10107, 13435, 13436, 14031,
];

/// `InterruptedAtShutdown` and the other interruptions.
const INTERRUPTED: RangeInclusive<i32> = 11_600..=11_602;

/// What the driver's `error` means to a caller.
fn database_error(error: &Error) -> DatabaseError {
    let is_gone = matches!(
        &*error.kind,
        ErrorKind::ServerSelection { .. }
            | ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::Authentication { .. }
            | ErrorKind::Shutdown
    );
    let passes = is_gone
        || error.contains_label("RetryableWriteError")
        || error.contains_label("TransientTransactionError")
        || code(error).is_some_and(is_transient_code);
    let (engine, detail, cause) = (ENGINE, first_line(error), Some(Arc::new(error.clone()) as _));
    if passes {
        DatabaseError::Unavailable { engine, detail, cause }
    } else {
        DatabaseError::Refused { engine, detail, cause }
    }
}

fn is_transient_code(code: i32) -> bool {
    TRANSIENT.contains(&code) || INTERRUPTED.contains(&code)
}

/// The server's code, where it was the server that refused.
#[expect(clippy::wildcard_enum_match_arm, reason = "no other kind has one")]
fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(CommandError { code, .. }) => Some(*code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => {
            let concern = error.write_concern_error.as_ref().map(|error| error.code);
            let writes = error.write_errors.as_ref().and_then(|errors| errors.first());
            concern.or_else(|| writes.map(|error| error.code))
        }
        _ => None,
    }
}

/// The driver's text: server selection lists every server, which is for the log.
fn first_line(error: &Error) -> String {
    let text = error.kind.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// `DuplicateKey`: another writer was faster.
fn is_duplicate_key(error: &Error) -> bool {
    code(error) == Some(11_000)
}
