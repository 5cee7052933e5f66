//! Every shared name and number, once, in sections.

use std::time::Duration;

// COLLECTIONS: as an existing PocketQuant database names them.

/// Bars.
pub const COLLECTION_OHLCV: &str = "ohlcv";
/// Symbols that are known here.
pub const COLLECTION_SYMBOLS: &str = "symbols";
/// How the synchronisation of each series stands.
pub const COLLECTION_SYNC_STATUS: &str = "sync_status";

// CACHE KEYS: each is followed by a colon and the parts that its function joins.

/// A caller's calls: `rate_limit:{principal}`.
pub const CACHE_PREFIX_RATE_LIMIT: &str = "rate_limit";

// TTLS

/// How long an idempotency key stands for one request and its answer.
pub const TTL_IDEMPOTENCY: Duration = Duration::from_hours(24);

// LIMITS

/// Longest symbol, exchange and colon included, in characters.
pub const MAX_SYMBOL_LENGTH: usize = 64;
/// Bars of a sync that names no count, and the most it may name.
pub const MAX_SYNC_BAR_COUNT: i32 = 5_000;
/// Symbols of a `SyncSymbols` call at most.
pub const MAX_SYNC_SYMBOLS: usize = 50;
/// Longest text that symbols are searched by, in characters.
pub const MAX_SEARCH_QUERY_LENGTH: usize = 100;
/// Matches of a search that names no limit.
pub const DEFAULT_SEARCH_LIMIT: i32 = 50;
/// Most matches of a search.
pub const MAX_SEARCH_LIMIT: i32 = 500;
/// Longest name, description and type that a person gives a symbol, in characters.
pub const MAX_CUSTOM_LENGTHS: (usize, usize, usize) = (100, 300, 50);
/// Bars of a symbol that are deleted at a time.
pub const DELETE_BARS_BATCH: u32 = 5_000;
/// Bars of a page when the request names no limit.
pub const DEFAULT_BARS_LIMIT: i32 = 1_000;
/// Most bars of a page.
pub const MAX_BARS_LIMIT: i32 = 5_000;
/// Rows of a list's page when the request names no size.
pub const DEFAULT_PAGE_SIZE: i32 = 100;
/// Most rows of a list's page.
pub const MAX_PAGE_SIZE: i32 = 1_000;
/// Bars of an exported chunk when the request names no size.
pub const DEFAULT_CHUNK_SIZE: i32 = 8_192;
/// Most bars of an exported chunk: under 1 MiB in any case.
pub const MAX_CHUNK_SIZE: i32 = 16_384;
/// Most cells of a series that one call looks at: a year of futures' minutes and some.
pub const MAX_COVERAGE_CELLS: usize = 500_000;
/// Most segments of one answer: under 2 MiB in any case.
pub const MAX_COVERAGE_SEGMENTS: usize = 50_000;
/// Most symbols of one stream, and of one list of quotes.
pub const MAX_STREAM_SYMBOLS: usize = 1_000;
/// Longest conflation of quotes.
pub const MAX_CONFLATE: Duration = Duration::from_mins(1);
/// How often a stream says that it is alive.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);
/// After the first update of a burst a stream waits this long for the others.
pub const STREAM_BATCH_EVERY: Duration = Duration::from_millis(5);
/// How long a reader of bars may read nothing while there is something to read.
pub const SLOW_CONSUMER_AFTER: Duration = Duration::from_secs(30);
/// Longest page token that is looked at, in bytes.
pub const MAX_PAGE_TOKEN_LENGTH: usize = 1_024;
/// Longest correlation id, in characters.
pub const MAX_CORRELATION_ID_LENGTH: usize = 128;
/// Longest idempotency key, in characters.
pub const MAX_IDEMPOTENCY_KEY_LENGTH: usize = 255;
/// Largest answer that is kept for an idempotency key, in bytes.
pub const MAX_IDEMPOTENT_ANSWER_BYTES: usize = 1024 * 1024;
/// How long whoever runs a command under an idempotency key holds it without saying so again.
pub const IDEMPOTENCY_LEASE: Duration = Duration::from_secs(15);
/// How often they say so.
pub const IDEMPOTENCY_RENEWAL: Duration = Duration::from_secs(5);
/// How long a call waits for the one before it that has its idempotency key.
pub const IDEMPOTENCY_WAIT: Duration = Duration::from_secs(2);
/// How long one access to the store of idempotency keys may take.
pub const IDEMPOTENCY_STORE_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest request message, in bytes: the longest lists are a tenth of it.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Largest request message of health, which asks without a key, in bytes.
pub const MAX_PROBE_BYTES: usize = 4 * 1024;
/// How long a request may take to arrive.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// Checks and watches of health that one caller may have under way at once.
pub const PROBES_PER_CALLER: u32 = 256;
/// Largest answer message, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// Domain events that the bus remembers.
pub const EVENT_HISTORY: usize = 50;
/// Events that wait for a subscriber of the bus before it is told that it missed some.
pub const EVENT_QUEUE: usize = 1_024;
/// Domain events that `ListEvents` can answer with.
pub const LISTED_EVENTS: i32 = 1_000;
/// Events that `ListEvents` answers with when the request names no limit.
pub const DEFAULT_EVENTS_LIMIT: i32 = 50;
/// Webhooks at most.
pub const MAX_WEBHOOKS: usize = 100;
/// Events that wait for a webhook before bars for it wait in the bar log.
pub const MAX_WAITING_BARS: u64 = 1_000;
/// Events that wait for a webhook at most, but for those of the last seconds.
pub const MAX_WAITING_EVENTS: u32 = 10_000;
/// Deliveries to a webhook that are kept after they have ended.
pub const KEPT_DELIVERIES: u32 = 1_000;
/// Longest description of a webhook, in characters.
pub const MAX_WEBHOOK_DESCRIPTION: usize = 500;
/// Connections to the server altogether; fewer where the process may open fewer files.
pub const MAX_CONNECTIONS: u32 = 10_000;
/// Calls and streams that one connection may have open; a client waits for a free one.
pub const STREAMS_PER_CONNECTION: u32 = 1_000;
/// Streams that a client may reset before they were accepted; one more, and its connection ends.
pub const MAX_PENDING_RESETS: usize = 64;
/// Streams that we may reset because a client broke the protocol before its connection ends.
pub const MAX_LOCAL_RESETS: usize = 256;
/// Largest headers of a call, in bytes as HTTP/2 counts them.
pub const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// What waits to be sent on one stream before it is asked for no more, in bytes.
pub const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How long a connection may take for its TLS handshake and its HTTP/2 preface together.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it lives.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
/// How long a connection may take to say that it lives.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// After about this time a connection takes no new calls, so that clients spread over replicas;
/// what is open goes on for as long as it likes.
pub const CONNECTION_AGE: Duration = Duration::from_hours(1);
/// How long a connection may take no byte of what it is sent.
pub const BLOCKED_WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the reader of an answer may leave its window shut, besides the time to send it.
pub const READER_PATIENCE: Duration = Duration::from_secs(30);
/// The same for an answer of many messages.
pub const STREAM_READER_PATIENCE: Duration = Duration::from_mins(5);
/// The slowest reader that the time to send a message allows for.
pub const READER_BYTES_PER_SECOND: u64 = 64 * 1024;
/// The first and the longest wait after a connection could not be accepted.
pub const ACCEPT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(1));
/// How often refused connections are told of in the log.
pub const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(10);
/// Calls in flight in the whole process, to the end of their answers; streams that are being
/// opened count, open ones do not.
pub const MAX_CALLS: usize = 1_024;
/// Streams open in the whole process.
pub const MAX_STREAMS: usize = 16_384;
/// How long stopping may take altogether.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);
/// How long streams have to say their last when the service stops.
pub const STREAM_GRACE: Duration = Duration::from_secs(3);
/// How long clients have to take their last answers, once the work is done.
pub const CLIENT_GRACE: Duration = Duration::from_secs(3);
/// How long the last traces have to be delivered.
pub const TELEMETRY_GRACE: Duration = Duration::from_secs(2);
/// How long one health check may take.
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often health is checked.
pub const HEALTH_CHECK_EVERY: Duration = Duration::from_secs(5);
/// Failures in a row that make a dependency unhealthy; one success makes it healthy again.
pub const HEALTH_FAILURES: u32 = 3;
/// When a caller should try again after something we depend on was away.
pub const RETRY_AFTER_OUTAGE: Duration = Duration::from_secs(2);

// HEADERS

/// The id that joins a call's log lines; taken from the caller or made, and on every answer.
pub const HEADER_CORRELATION_ID: &str = "x-correlation-id";
/// The call's deadline, as the gRPC protocol writes it.
pub const HEADER_GRPC_TIMEOUT: &str = "grpc-timeout";
/// The caller's name for a command that is to be carried out once, however often it is sent.
pub const HEADER_IDEMPOTENCY_KEY: &str = "idempotency-key";
/// `true` on an answer that was made for an earlier call with the same idempotency key.
pub const HEADER_IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
/// Where a proxy says for whom it calls; believed of trusted proxies only.
pub const HEADER_FORWARDED_FOR: &str = "x-forwarded-for";
/// How many calls a caller may make at once.
pub const HEADER_RATE_LIMIT: &str = "x-ratelimit-limit";
/// How many are left of them.
pub const HEADER_RATE_REMAINING: &str = "x-ratelimit-remaining";
/// In how many whole seconds all of them will be there again.
pub const HEADER_RATE_RESET: &str = "x-ratelimit-reset";

// NAMES

/// The domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "pocketquant";
/// The health name of "can serve".
pub const HEALTH_READINESS: &str = "readiness";
/// The health name of "the runtime is alive".
pub const HEALTH_LIVENESS: &str = "liveness";
/// The health name of the database.
pub const HEALTH_DATABASE: &str = "database";
/// The health name of the feed.
pub const HEALTH_FEED: &str = "feed";
/// The health name of the jobs.
pub const HEALTH_JOBS: &str = "jobs";
/// The health name of the cache.
pub const HEALTH_CACHE: &str = "cache";
