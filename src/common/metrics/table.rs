//! The one table of metrics.
//!
//! Names follow Prometheus: base units (seconds, bytes), the unit last, `_total` on counters.
//! No label ever holds a symbol, a key or another caller's text: each has a small, fixed set of
//! values.

use std::fmt::Write as _;

use metrics::{Counter, Gauge, Histogram};

use super::family::{Description, Family, Kind};

/// Declares the metrics, a constant each, and [`METRICS`], which holds them all.
macro_rules! metrics {
    ($($name:ident $kind:ident $text:literal $unit:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = concat!("`", $text, "`: [`METRICS`] says what it means.")]
            pub const $name: Family<$kind, { count(&[$($label),*]) }> =
                Family::new($text, [$($label),*]);
        )+

        /// Every metric, in the order of the documentation.
        pub const METRICS: &[Description] = &[$(
            Description {
                name: $text,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
            }
        ),+];
    };
}

const fn count(labels: &[&str]) -> usize {
    labels.len()
}

metrics! {
    RPC_REQUESTS Counter "pocketquant_rpc_requests_total" "calls" ["method", "code"]
        "Calls that ended, by method (`other` where there is no such method) and gRPC code; CANCELLED where the caller went away";
    RPC_DURATION Histogram "pocketquant_rpc_duration_seconds" "seconds" ["method"]
        "From a call's arrival to the end of its answer, streams included";
    RPC_IN_FLIGHT Gauge "pocketquant_rpc_in_flight" "calls" ["method"]
        "Calls under way, open streams included";
    REQUESTS Counter "pocketquant_requests_total" "requests" ["request", "outcome"]
        "Commands and queries that ended; the outcome is ok, cancelled or the error's reason";
    REQUEST_DURATION Histogram "pocketquant_request_duration_seconds" "seconds" ["request"]
        "What a handler took; of a stream, to its beginning";
    STREAMS_OPEN Gauge "pocketquant_streams_open" "streams" ["request"]
        "Streams that are being sent: the subscribers of quotes and bars";
    STREAM_MESSAGES Counter "pocketquant_stream_messages_total" "messages" ["request"]
        "Messages that were sent on streams";
    STREAM_QUOTES_CONFLATED Counter "pocketquant_stream_quotes_conflated_total" "quotes" []
        "Quotes that a newer one replaced before a subscriber took them";
    STREAM_CATCH_UPS Counter "pocketquant_stream_catch_ups_total" "times" []
        "Times that a subscriber of bars fell behind what memory keeps and read the bar log";
    STREAM_SLOW_CONSUMERS Counter "pocketquant_stream_slow_consumers_total" "streams" []
        "Streams of bars that were ended as their reader read nothing";
    OVERLOAD_REFUSALS Counter "pocketquant_overload_refusals_total" "calls" []
        "Calls that were refused as the whole process had too many in flight";
    RATE_LIMIT_DECISIONS Counter "pocketquant_rate_limit_decisions_total" "calls" ["buckets", "outcome"]
        "Calls that were allowed or refused, by whose buckets decided: local (no Redis is set), shared (in Redis), fallback (Redis is away)";
    STREAM_LIMIT_REFUSALS Counter "pocketquant_stream_limit_refusals_total" "streams" []
        "Streams that were refused as their caller had too many open";
    IDEMPOTENCY_CALLS Counter "pocketquant_idempotency_calls_total" "calls" ["outcome"]
        "Calls with an idempotency key: ran, replayed, in_progress, key_reused, store_away, refused, cancelled (the caller went away)";
    FEED_STATE Gauge "pocketquant_feed_state" "0 or 1" ["state"]
        "1 for the state that the feed is in: stopped, idle, connecting, connected, reconnecting";
    FEED_MESSAGES Counter "pocketquant_feed_messages_total" "messages" []
        "What the provider said on the feed, heartbeats included";
    FEED_RECONNECTS Counter "pocketquant_feed_reconnects_total" "times" []
        "Times that the feed was connected again after a loss";
    FEED_LAST_MESSAGE Gauge "pocketquant_feed_last_message_timestamp_seconds" "Unix time" []
        "When the provider last said anything; 0 before the first time. `time() - ` it is its age";
    FEED_SYMBOLS Gauge "pocketquant_feed_symbols" "symbols" ["kind"]
        "Symbols that are followed: subscribed (until told otherwise), active (now)";
    FEED_TICKS Counter "pocketquant_feed_ticks_total" "ticks" ["outcome"]
        "Ticks by what became of them: merged into a bar, late (merged into a closed one), too_late, future, off_session, outranked, invalid, untracked";
    BARS Counter "pocketquant_bars_total" "bars" ["change"]
        "Bars that the feed closed, revised for a late tick, or repaired from the provider";
    BARS_PENDING Gauge "pocketquant_bars_pending" "bars" []
        "Bars that were decided and are not stored yet";
    SPOOL_ENTRIES Gauge "pocketquant_spool_entries" "entries" []
        "What waits on disk for a database that is away: closed bars in batches, and the newest word on each symbol's forming ones";
    SPOOL_BYTES Gauge "pocketquant_spool_bytes" "bytes" []
        "Size of the file that they wait in; SPOOL_MAX_SIZE is its bound";
    SPOOL_OLDEST Gauge "pocketquant_spool_oldest_timestamp_seconds" "Unix time" []
        "When the oldest of them was put there; 0 where nothing waits";
    SPOOL_REFUSALS Counter "pocketquant_spool_refusals_total" "times" ["reason"]
        "Times that the spool took nothing: full, unusable";
    BAR_LOG_HEAD Gauge "pocketquant_bar_log_head" "sequence" []
        "The newest entry of the bar log that this process knows of";
    BAR_LOG_PUBLISHED Gauge "pocketquant_bar_log_published" "sequence" []
        "The newest entry of the bar log that streams were told of";
    SYNCS Counter "pocketquant_syncs_total" "syncs" ["outcome"]
        "Syncs that ended: completed, cancelled, error, interrupted (the service stopped)";
    SYNCS_IN_FLIGHT Gauge "pocketquant_syncs_in_flight" "syncs" []
        "Syncs that run or wait for their turn";
    SYNC_DURATION Histogram "pocketquant_sync_duration_seconds" "seconds" []
        "From a sync's start, waiting included, to its end";
    SYNC_BARS Counter "pocketquant_sync_bars_total" "bars" ["kind"]
        "Bars that syncs fetched, by kind: inserted, updated, unchanged, rejected";
    JOB_RUNS Counter "pocketquant_job_runs_total" "runs" ["name", "outcome"]
        "Runs of jobs that ended, by the job's name: succeeded, partial, failed, timed_out, interrupted (by a stop or a crash)";
    JOB_DURATION Histogram "pocketquant_job_run_duration_seconds" "seconds" ["name"]
        "What a run of a job took";
    JOB_NEXT_RUN Gauge "pocketquant_job_next_run_timestamp_seconds" "Unix time" ["name"]
        "When a job runs next by itself; 0 where it does not";
    PROVIDER_PAGES Counter "pocketquant_provider_pages_total" "pages" ["outcome"]
        "Pages of history that the provider was asked for: ok, error, cancelled";
    PROVIDER_PAGE_DURATION Histogram "pocketquant_provider_page_duration_seconds" "seconds" []
        "What a page of history took, connecting included";
    HTTP_REQUESTS Counter "pocketquant_http_requests_total" "requests" ["target", "outcome"]
        "Requests that were made of web sites, each try by itself: ok, client_error, server_error, connect, tls, timeout, broken, breaker_open (not sent), address_refused (not sent), too_large, request, cancelled";
    HTTP_DURATION Histogram "pocketquant_http_request_duration_seconds" "seconds" ["target"]
        "What a try took, connecting and reading included";
    HTTP_RETRIES Counter "pocketquant_http_retries_total" "tries" ["target"]
        "Tries besides the first";
    HTTP_BREAKER_OPENINGS Counter "pocketquant_http_breaker_openings_total" "times" ["target"]
        "Times that a host had failed so often that it was left alone for a while";
    DATABASE_OPERATIONS Counter "pocketquant_database_operations_total" "calls" ["collection", "operation", "outcome"]
        "Calls of the database: ok, error, cancelled";
    DATABASE_DURATION Histogram "pocketquant_database_operation_duration_seconds" "seconds" ["collection", "operation"]
        "What a call of the database took, waiting for a connection included";
    DATABASE_CONNECTIONS Gauge "pocketquant_database_connections" "connections" ["state"]
        "Connections of the database's pools: in_use, idle";
    CACHE_OPERATIONS Counter "pocketquant_cache_operations_total" "calls" ["operation", "outcome"]
        "Calls of the cache: ok, error, cancelled; for get, hit and miss instead of ok";
    CACHE_DURATION Histogram "pocketquant_cache_operation_duration_seconds" "seconds" ["operation"]
        "What a call of the cache took";
    SERIES_CACHE_READS Counter "pocketquant_series_cache_reads_total" "reads" ["outcome"]
        "Queries of bars that the cache was asked for: hit, miss, bypass (written just now, or the cache is away)";
    WEBHOOK_ATTEMPTS Counter "pocketquant_webhook_attempts_total" "tries" ["outcome"]
        "Events that were sent to webhooks: delivered, answered (not with 2xx), timeout, unreachable, refused (an address that may not be called), gone (410)";
    WEBHOOK_EVENTS_LOST Counter "pocketquant_webhook_events_lost_total" "events" ["reason"]
        "Events that a webhook is not sent: failed (tried to the end), dropped (they waited for too long, or were too many), untold (the database was away for too long)";
    WEBHOOK_OUTBOX Gauge "pocketquant_webhook_outbox_events" "events" []
        "Events that wait for webhooks, enabled or not; all servers' on one database";
    WEBHOOK_OUTBOX_OLDEST Gauge "pocketquant_webhook_outbox_oldest_timestamp_seconds" "Unix time" []
        "Since when the oldest of them waits; 0 where none does. `time() - ` it is its age";
    WEBHOOKS Gauge "pocketquant_webhooks" "webhooks" ["state"]
        "Webhooks: enabled, disabled";
    QUEUE_LENGTH Gauge "pocketquant_queue_length" "entries" ["queue"]
        "What waits: feed_commands, feed_fetches, writer_jobs";
    QUEUE_CAPACITY Gauge "pocketquant_queue_capacity" "entries" ["queue"]
        "What fits into each queue";
    READY Gauge "pocketquant_ready" "0 or 1" []
        "1 where the process can serve, as the health service `readiness` says";
    DEPENDENCY_UP Gauge "pocketquant_dependency_up" "0 or 1" ["name"]
        "1 where the last health checks found it well: database, cache, feed, jobs; absent where the settings switch it off";
    TRACE_SPANS Counter "pocketquant_trace_spans_total" "spans" ["outcome"]
        "Spans that were handed to the trace collector: delivered, lost";
    BUILD_INFO Gauge "pocketquant_build_info" "1" ["version", "database", "cache"]
        "Always 1; says what runs, and on which engines";
    RUNTIME_WORKERS Gauge "pocketquant_runtime_workers" "threads" []
        "Worker threads of the async runtime";
    RUNTIME_TASKS Gauge "pocketquant_runtime_tasks_alive" "tasks" []
        "Tasks of the async runtime that have not ended";
    RUNTIME_QUEUE Gauge "pocketquant_runtime_global_queue_length" "tasks" []
        "Tasks that wait for a worker in the async runtime's shared queue";
    PROCESS_CPU Counter "process_cpu_seconds_total" "seconds" []
        "Processor time that the process has used, user and system, in whole seconds";
    PROCESS_START Gauge "process_start_time_seconds" "Unix time" []
        "When the process started";
    PROCESS_RESIDENT Gauge "process_resident_memory_bytes" "bytes" []
        "Memory of the process that is in RAM";
    PROCESS_VIRTUAL Gauge "process_virtual_memory_bytes" "bytes" []
        "Address space of the process";
    PROCESS_OPEN_FDS Gauge "process_open_fds" "descriptors" []
        "File descriptors that are open";
    PROCESS_MAX_FDS Gauge "process_max_fds" "descriptors" []
        "File descriptors that the process may open";
    PROCESS_THREADS Gauge "process_threads" "threads" []
        "Threads of the process";
}

/// The metrics for the documentation, as a Markdown table.
pub fn metrics_table() -> String {
    let mut table =
        String::from("| metric | type | unit | labels | what it is |\n|---|---|---|---|---|\n");
    for Description { name, kind, unit, labels, help } in METRICS {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        // Writing to a string cannot fail.
        let _infallible = writeln!(table, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_prometheus() {
        let mut seen = BTreeSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is declared twice");
            let is_plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
            assert!(name.chars().all(is_plain), "{name}");
            assert!(name.starts_with("pocketquant_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            if metric.kind == Kind::Histogram {
                assert!(name.ends_with("_duration_seconds"), "{name} has no buckets");
            }
            for label in metric.labels {
                assert!(label.chars().all(|c| c.is_ascii_lowercase()), "{name}: {label}");
                assert!(!["le", "quantile", "symbol"].contains(label), "{name}: {label}");
            }
        }
    }
}
