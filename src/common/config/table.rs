//! The one table of settings.

use std::fmt::Write as _;

/// What of a setting's value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitivity {
    /// All of it.
    Plain,
    /// It is a URL: what names and passwords it holds, and its query, are not.
    Url,
    /// Nothing.
    Secret,
}

/// A setting, as users see it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name of the environment variable.
    pub name: &'static str,
    /// What holds when it is unset, if anything.
    pub default: Option<&'static str>,
    /// What it is for, in one line.
    pub help: &'static str,
    /// What is accepted.
    pub accepts: &'static str,
    /// What of it may be shown.
    pub sensitivity: Sensitivity,
}

/// Declares the settings, a constant each, and [`SETTINGS`], which holds them all.
macro_rules! settings {
    ($($name:ident $sensitivity:ident $default:expr, $accepts:literal, $help:literal;)+) => {
        $(
            pub(super) const $name: Setting = Setting {
                name: stringify!($name),
                default: $default,
                help: $help,
                accepts: $accepts,
                sensitivity: Sensitivity::$sensitivity,
            };
        )+

        /// Every setting, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[$($name),+];
    };
}

settings! {
    GRPC_ADDR Plain Some("127.0.0.1:50051"), "an address and a port, e.g. `127.0.0.1:50051`",
        "Where gRPC is served; port 0 takes a free one";
    ALLOW_INSECURE Plain Some("false"), "`true` or `false`",
        "Allow GRPC_ADDR to be reachable from other machines with neither API keys nor client certificates";
    CONNECTIONS_PER_ADDRESS Plain Some("2048"), "a number from 1 to 10000",
        "Most connections from one address (an IPv6 /64 counts as one); what comes through a proxy shares the proxy's";
    API_KEYS_FILE Plain None, "a file of lines that `pocketquant keys new` prints",
        "Serve only callers with an API key of this file; it is read again when it changes";
    TLS_CERT Plain None, "a file of PEM certificates, with TLS_KEY",
        "Encrypt gRPC: the server's certificate, and those that lead to its root; read again when it changes";
    TLS_KEY Plain None, "a file with a PEM private key, with TLS_CERT",
        "The private key of TLS_CERT";
    TLS_CLIENT_CA Plain None, "a file of PEM certificates, with TLS_CERT and TLS_KEY",
        "Serve only clients whose certificate leads to one of these roots (mTLS)";
    TRUSTED_PROXIES Plain None,
        "networks with commas between them, e.g. `10.0.0.0/8,fd00::/8`",
        "Proxies that are believed when X-Forwarded-For says for whom they call";
    RATE_LIMIT_BURST Plain Some("200"), "a number from 1 to 1000000",
        "Calls that one caller may make at once";
    RATE_LIMIT_PER_SECOND Plain Some("20"), "a number from 0 to 10000",
        "Calls that one caller may make a second in the long run; 0 for no limit on calls";
    STREAMS_PER_PRINCIPAL Plain Some("2000"), "a number from 1 to 1000000",
        "Streams that one caller may have open at once";
    ENVIRONMENT Plain Some("development"), "`development` or `production`",
        "What GetHealth calls this installation";
    LOG_FORMAT Plain Some("console"), "`console` or `json`",
        "How log lines look; they go to stderr";
    LOG_LEVEL Plain Some("info"),
        "`error`, `warn`, `info`, `debug`, `trace`, `off`, or directives like `pocketquant=debug,warn`",
        "Which log lines are written";
    DATA_DIR Plain Some("./data"), "a folder; it is made when it is missing",
        "Where the embedded database (SQLite) keeps its files, and bars wait for one that is away";
    SPOOL_MAX_SIZE Plain Some("256MiB"), "a size from `64KiB` to `1024GiB`, e.g. `256MiB`",
        "Most that closed bars may take in DATA_DIR while the database is away; beyond it the feed lets go of its connection, and fetches what it missed";
    MONGODB_URL Url None, "a URL that begins with `mongodb://` or `mongodb+srv://` and names a host",
        "Keep everything in this MongoDB instead of the embedded database";
    MONGODB_DATABASE Plain Some("pocketquant"),
        "1 to 63 characters, none of them a space or one of `/\\.\"$*<>:|?`",
        "The database in MongoDB";
    MONGODB_MIN_POOL_SIZE Plain Some("0"), "a number from 0 to 1000, MONGODB_MAX_POOL_SIZE at most",
        "Connections to MongoDB that are kept open";
    MONGODB_MAX_POOL_SIZE Plain Some("32"), "a number from 1 to 1000",
        "Most connections to MongoDB";
    REDIS_URL Url None, "a URL that begins with `redis://` or `rediss://` and names a host",
        "Use this Redis as the cache instead of the process's own memory";
    TRADINGVIEW_WS_URL Url Some("wss://data.tradingview.com/socket.io/websocket"),
        "a URL that begins with `ws://` or `wss://` and names a host, without a user or password",
        "TradingView's data socket, or a simulator's";
    TRADINGVIEW_HTTP_URL Url Some("https://www.tradingview.com"),
        "a URL that begins with `http://` or `https://` and names a host, without a user or password",
        "TradingView's web site, for logging in, or a simulator's";
    TRADINGVIEW_SEARCH_URL Url None,
        "a URL that begins with `http://` or `https://` and names a host, without a user or password",
        "TradingView's symbol directory; unset means TradingView's own, or TRADINGVIEW_HTTP_URL where that is not TradingView's";
    TRADINGVIEW_CA_FILE Plain None, "a file of PEM certificates",
        "Roots to trust besides the public ones: a simulator's, a company proxy's";
    TRADINGVIEW_AUTH_TOKEN Secret None, "a token, without TRADINGVIEW_SESSIONID and TRADINGVIEW_USERNAME",
        "Log in to TradingView with this token; without any log-in the access is anonymous";
    TRADINGVIEW_SESSIONID Secret None,
        "the cookie `sessionid`, without TRADINGVIEW_AUTH_TOKEN and TRADINGVIEW_USERNAME",
        "Log in to TradingView with this session's cookie";
    TRADINGVIEW_SESSIONID_SIGN Secret None, "the cookie `sessionid_sign`, with TRADINGVIEW_SESSIONID",
        "The signature that belongs to TRADINGVIEW_SESSIONID";
    TRADINGVIEW_USERNAME Secret None,
        "a user name with TRADINGVIEW_PASSWORD, without TRADINGVIEW_AUTH_TOKEN and TRADINGVIEW_SESSIONID",
        "Log in to TradingView with this user name";
    TRADINGVIEW_PASSWORD Secret None, "a password, with TRADINGVIEW_USERNAME",
        "The password of TRADINGVIEW_USERNAME";
    HISTORY_TIMEOUT Plain Some("30s"), "a duration from `100ms` to `10m`, e.g. `30s`",
        "Longest wait for the provider without progress (one page of history)";
    FEED_AUTOSTART Plain Some("true"), "`true` or `false`",
        "Follow live quotes from the start, once something is subscribed";
    FEED_CLOCK Plain Some("wall"), "`wall` or `event`",
        "What closes bars besides ticks: the machine's clock, or in a replay each symbol's newest tick";
    BAR_GRACE Plain Some("2s"), "a duration from `0s` to `1m`, e.g. `2s`",
        "How long after its end a quiet bar waits for late ticks before it closes";
    BAR_LATENESS Plain Some("2m"), "a duration from `0s` to `1h`, BAR_GRACE at least, e.g. `2m`",
        "How late a tick may come and still correct its bar";
    BAR_LOG_RETENTION Plain Some("7d"), "a duration from `1s` to `365d`, e.g. `7d`",
        "How long a stream can be resumed where it stopped: closed and corrected bars are logged so long";
    JOBS_ENABLED Plain Some("true"), "`true` or `false`",
        "Run jobs by schedule here; RunJob runs them in any case";
    JOB_MARKET_DATA_SYNC_ALL_SCHEDULE Plain Some("0 0 */6 * * *"), "six cron fields, seconds first, in UTC, e.g. `0 0 */6 * * *`",
        "When the newest 500 bars of every series that was ever synced are fetched";
    JOB_MARKET_DATA_SYNC_ALL_ENABLED Plain Some("true"), "`true` or `false`",
        "Run the job `market_data_sync_all` by schedule";
    JOB_MARKET_DATA_SYNC_DAILY_SCHEDULE Plain Some("0 0 9-17 * * Mon-Fri"), "six cron fields, seconds first, in UTC, e.g. `0 0 */6 * * *`",
        "When the newest 10 bars of every such series of days are fetched";
    JOB_MARKET_DATA_SYNC_DAILY_ENABLED Plain Some("true"), "`true` or `false`",
        "Run the job `market_data_sync_daily` by schedule";
    JOB_REPAIR_GAPS_SCHEDULE Plain Some("0 30 3 * * *"), "six cron fields, seconds first, in UTC, e.g. `0 0 */6 * * *`",
        "When what the feed missed in the last 7 days is fetched; it is after each loss of the connection too";
    JOB_REPAIR_GAPS_ENABLED Plain Some("true"), "`true` or `false`",
        "Run the job `repair_gaps` by schedule";
    JOB_RETENTION_SCHEDULE Plain Some("0 15 * * * *"), "six cron fields, seconds first, in UTC, e.g. `0 0 */6 * * *`",
        "When what is no longer kept is removed: the bar log (BAR_LOG_RETENTION), syncs that ended a day ago, deliveries to webhooks that ended 30 days ago";
    JOB_RETENTION_ENABLED Plain Some("true"), "`true` or `false`",
        "Run the job `retention` by schedule";
    WEBHOOK_ALLOWED_NETWORKS Plain None,
        "networks with commas between them, e.g. `10.1.0.0/16,127.0.0.0/8`",
        "Networks besides the public internet that webhooks may be in, `http` included";
    METRICS_ADDR Plain None, "an address and a port, e.g. `127.0.0.1:9464`",
        "Where Prometheus fetches metrics (`/metrics`, over HTTP); unset means none are kept";
    OTEL_EXPORTER_OTLP_ENDPOINT Url None,
        "a URL that begins with `http://` or `https://` and names a host, without a user or password",
        "Send traces to this collector, over OTLP and gRPC; unset means none are made";
    OTEL_SDK_DISABLED Plain Some("false"), "`true` or `false`",
        "Make no traces, whatever else is set";
    OTEL_EXPORTER_OTLP_CERTIFICATE Plain None, "a file of PEM certificates",
        "Roots to trust for an https collector besides the public ones";
    OTEL_SERVICE_NAME Plain Some("pocketquant"), "a name; in the environment, not in `.env`",
        "What the service is called in traces";
    OTEL_RESOURCE_ATTRIBUTES Plain None, "`key=value,...`; in the environment, not in `.env`",
        "What else traces say about the service";
    OTEL_TRACES_SAMPLER Plain Some("parentbased_always_on"),
        "`always_on`, `always_off`, `traceidratio`, or one of these behind `parentbased_`; in the environment, not in `.env`",
        "Which traces are made";
    OTEL_TRACES_SAMPLER_ARG Plain Some("1.0"), "a number from 0 to 1; in the environment, not in `.env`",
        "The part of the traces that `traceidratio` makes";
    OTEL_EXPORTER_OTLP_HEADERS Secret None, "`key=value,...`; in the environment, not in `.env`",
        "Metadata for the collector, such as its API key";
    OTEL_EXPORTER_OTLP_TIMEOUT Plain Some("10000"), "milliseconds; in the environment, not in `.env`",
        "Longest wait for the collector";
    OTEL_BSP_SCHEDULE_DELAY Plain Some("5000"), "milliseconds; in the environment, not in `.env`",
        "How often spans are sent";
    OTEL_BSP_MAX_QUEUE_SIZE Plain Some("2048"), "a number; in the environment, not in `.env`",
        "Spans that wait to be sent at most; more are lost";
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE Plain Some("512"), "a number; in the environment, not in `.env`",
        "Spans that are sent at once";
}

/// The settings for `serve --help`.
pub fn help_text() -> String {
    let mut text = String::from("Settings (environment, or `.env` in the working directory):\n");
    for setting in SETTINGS {
        let Setting { name, help, .. } = setting;
        let default = setting.default.map(|value| format!(" [default: {value}]"));
        let default = default.unwrap_or_default();
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name:<30} {help}{default}");
    }
    text
}

/// The settings for the README, as a Markdown table.
pub fn readme_table() -> String {
    let mut table =
        String::from("| setting | default | what it is | accepted |\n|---|---|---|---|\n");
    for Setting { name, default, help, accepts, .. } in SETTINGS {
        let default = default.map_or_else(|| "unset".to_owned(), |value| format!("`{value}`"));
        let accepts = accepts.replace('|', "\\|");
        let _infallible = writeln!(table, "| `{name}` | {default} | {help} | {accepts} |");
    }
    table
}
