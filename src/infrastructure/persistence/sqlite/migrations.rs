//! The tables, and how they came to be. A released migration is never changed.

use std::path::Path;

use rusqlite::Connection;

use super::{DatabaseError, start_error};

/// Each brings the database from the version of its index to the next (`PRAGMA user_version`).
const MIGRATIONS: &[&str] = &[
    // 1: series are numbered so that a bar's key is two integers; times are milliseconds since
    // 1970 UTC; the view `bars` shows them as people read them.
    "CREATE TABLE series (
        series_id     INTEGER PRIMARY KEY,
        exchange      TEXT NOT NULL,
        symbol        TEXT NOT NULL,
        interval      TEXT NOT NULL,
        final_count   INTEGER NOT NULL DEFAULT 0 CHECK (final_count >= 0),
        UNIQUE (exchange, symbol, interval)
    ) STRICT;
    CREATE TABLE ohlcv (
        series_id        INTEGER NOT NULL REFERENCES series (series_id),
        open_time        INTEGER NOT NULL,
        open             REAL NOT NULL,
        high             REAL NOT NULL,
        low              REAL NOT NULL,
        close            REAL NOT NULL,
        volume           REAL,
        revision         INTEGER NOT NULL CHECK (revision >= 0),
        finality_unknown INTEGER NOT NULL DEFAULT 0,
        source           INTEGER NOT NULL,
        tick_count       INTEGER,
        created_at       INTEGER NOT NULL,
        updated_at       INTEGER NOT NULL,
        PRIMARY KEY (series_id, open_time)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE symbols (
        exchange      TEXT NOT NULL,
        symbol        TEXT NOT NULL,
        name          TEXT,
        description   TEXT,
        asset_type    TEXT,
        currency      TEXT,
        timezone      TEXT,
        session       TEXT,
        holidays      TEXT,
        corrections   TEXT,
        price_scale   INTEGER,
        is_active     INTEGER NOT NULL,
        created_at    INTEGER NOT NULL,
        updated_at    INTEGER NOT NULL,
        PRIMARY KEY (exchange, symbol)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sync_status (
        exchange      TEXT NOT NULL,
        symbol        TEXT NOT NULL,
        interval      TEXT NOT NULL,
        status        TEXT NOT NULL,
        bar_count     INTEGER NOT NULL,
        last_sync_at  INTEGER,
        last_bar_at   INTEGER,
        error_message TEXT,
        created_at    INTEGER NOT NULL,
        updated_at    INTEGER NOT NULL,
        PRIMARY KEY (exchange, symbol, interval)
    ) STRICT, WITHOUT ROWID;
    CREATE VIEW bars AS SELECT
        exchange || ':' || symbol AS symbol,
        interval,
        strftime('%Y-%m-%dT%H:%M:%fZ', open_time / 1000.0, 'unixepoch') AS open_time,
        open, high, low, close, volume,
        CASE revision WHEN 0 THEN 'FORMING' WHEN 1 THEN 'CLOSED' ELSE 'REVISED' END AS state,
        revision,
        CASE source WHEN 0 THEN 'PROVIDER' WHEN 1 THEN 'TICKS' ELSE 'REPAIR' END AS source,
        tick_count,
        strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000.0, 'unixepoch') AS updated_at
    FROM ohlcv JOIN series USING (series_id);",
    // 2: the bar log, the feed's subscriptions and what it remembers over a crash; the view
    // `logged_bars` shows the log as people read it.
    "CREATE TABLE bar_log (
        shard            INTEGER NOT NULL,
        sequence         INTEGER NOT NULL,
        series_id        INTEGER NOT NULL REFERENCES series (series_id),
        open_time        INTEGER NOT NULL,
        open             REAL NOT NULL,
        high             REAL NOT NULL,
        low              REAL NOT NULL,
        close            REAL NOT NULL,
        volume           REAL,
        revision         INTEGER NOT NULL CHECK (revision > 0),
        source           INTEGER NOT NULL,
        tick_count       INTEGER,
        written_at       INTEGER NOT NULL,
        PRIMARY KEY (shard, sequence),
        UNIQUE (series_id, open_time, revision)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE bar_log_head (
        shard            INTEGER PRIMARY KEY,
        first            INTEGER NOT NULL,
        next             INTEGER NOT NULL,
        applied          INTEGER NOT NULL
    ) STRICT;
    INSERT INTO bar_log_head (shard, first, next, applied) VALUES (0, 1, 1, 0);
    CREATE TABLE subscriptions (
        exchange         TEXT NOT NULL,
        symbol           TEXT NOT NULL,
        created_at       INTEGER NOT NULL,
        logged_from      INTEGER,
        PRIMARY KEY (exchange, symbol)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE feed_state (
        exchange         TEXT NOT NULL,
        symbol           TEXT NOT NULL,
        state            BLOB NOT NULL,
        updated_at       INTEGER NOT NULL,
        PRIMARY KEY (exchange, symbol)
    ) STRICT;
    CREATE VIEW logged_bars AS SELECT
        sequence,
        exchange || ':' || symbol AS symbol,
        interval,
        strftime('%Y-%m-%dT%H:%M:%fZ', open_time / 1000.0, 'unixepoch') AS open_time,
        open, high, low, close, volume,
        CASE revision WHEN 1 THEN 'CLOSED' ELSE 'REVISED' END AS state,
        revision,
        CASE source WHEN 0 THEN 'PROVIDER' WHEN 1 THEN 'TICKS' ELSE 'REPAIR' END AS source,
        tick_count,
        strftime('%Y-%m-%dT%H:%M:%fZ', written_at / 1000.0, 'unixepoch') AS written_at
    FROM bar_log JOIN series USING (series_id);",
    // 3: the syncs that were asked for. No bar_count means all that the provider has.
    "CREATE TABLE syncs (
        sync_id          TEXT PRIMARY KEY,
        exchange         TEXT NOT NULL,
        symbol           TEXT NOT NULL,
        interval         TEXT NOT NULL,
        bar_count        INTEGER,
        state            TEXT NOT NULL,
        pages            INTEGER NOT NULL DEFAULT 0,
        fetched          INTEGER NOT NULL DEFAULT 0,
        inserted         INTEGER NOT NULL DEFAULT 0,
        updated          INTEGER NOT NULL DEFAULT 0,
        unchanged        INTEGER NOT NULL DEFAULT 0,
        rejected         INTEGER NOT NULL DEFAULT 0,
        oldest           INTEGER,
        newest           INTEGER,
        started_at       INTEGER NOT NULL,
        owner            TEXT NOT NULL,
        leased_until     INTEGER NOT NULL,
        cancelled        INTEGER NOT NULL DEFAULT 0,
        ended_at         INTEGER,
        outcome          BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX syncs_unfinished ON syncs (started_at) WHERE ended_at IS NULL;
    CREATE INDEX syncs_ended ON syncs (ended_at) WHERE ended_at IS NOT NULL;",
    // 4: what became of idempotency keys. `lease_until` is on the clock of `process`.
    "CREATE TABLE idempotency (
        principal        TEXT NOT NULL,
        method           TEXT NOT NULL,
        key              TEXT NOT NULL,
        fingerprint      TEXT NOT NULL,
        token            TEXT NOT NULL,
        process          TEXT NOT NULL,
        lease_until      INTEGER NOT NULL,
        answer           BLOB,
        expires_at       INTEGER NOT NULL,
        PRIMARY KEY (principal, method, key)
    ) STRICT;
    CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);",
    // 5: what was asked of the provider, a row a series, and when the feed was there, a row a
    // symbol with `feed` in the place of the interval; the view shows them as people read them.
    "CREATE TABLE coverage (
        exchange         TEXT NOT NULL,
        symbol           TEXT NOT NULL,
        interval         TEXT NOT NULL,
        followed         INTEGER NOT NULL,
        heard            INTEGER,
        asked            TEXT NOT NULL,
        connected        TEXT NOT NULL,
        down             TEXT NOT NULL,
        PRIMARY KEY (exchange, symbol, interval)
    ) STRICT;
    CREATE INDEX coverage_followed ON coverage (followed) WHERE followed;
    CREATE VIEW coverage_ranges AS
        SELECT
            exchange || ':' || symbol AS symbol,
            interval,
            kind,
            strftime('%Y-%m-%dT%H:%M:%fZ', (stretch.value ->> 0) / 1000.0, 'unixepoch') AS start_time,
            strftime('%Y-%m-%dT%H:%M:%fZ', (stretch.value ->> 1) / 1000.0, 'unixepoch') AS end_time
        FROM (
            SELECT exchange, symbol, interval, 'asked' AS kind, asked AS ranges FROM coverage
            UNION ALL SELECT exchange, symbol, interval, 'connected', connected FROM coverage
            UNION ALL SELECT exchange, symbol, interval, 'down', down FROM coverage
        ), json_each(ranges) AS stretch;",
    // 6: since when jobs have their schedules, and their runs. No instant: somebody asked for it.
    "CREATE TABLE jobs (
        job_id           TEXT PRIMARY KEY,
        schedule         TEXT NOT NULL,
        since            INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE job_runs (
        run_id           TEXT PRIMARY KEY,
        job_id           TEXT NOT NULL,
        instant          INTEGER,
        attempt          INTEGER NOT NULL,
        started_at       INTEGER NOT NULL,
        owner            TEXT NOT NULL,
        leased_until     INTEGER NOT NULL,
        ended_at         INTEGER,
        outcome          TEXT,
        message          TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX job_runs_running ON job_runs (job_id) WHERE ended_at IS NULL;
    CREATE UNIQUE INDEX job_runs_instant ON job_runs (job_id, instant, attempt)
        WHERE instant IS NOT NULL;
    CREATE INDEX job_runs_started ON job_runs (job_id, started_at);",
    // 7: webhooks and what is to be sent to them; lists have commas between their names.
    "CREATE TABLE webhooks (
        webhook_id       TEXT PRIMARY KEY,
        url              TEXT NOT NULL,
        description      TEXT NOT NULL,
        event_types      TEXT NOT NULL,
        symbols          TEXT NOT NULL,
        intervals        TEXT NOT NULL,
        secret           TEXT NOT NULL,
        created_at       INTEGER NOT NULL,
        disabled_at      INTEGER,
        disabled_why     TEXT,
        cursor           INTEGER NOT NULL,
        dropped          INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE webhook_outbox (
        webhook_id       TEXT NOT NULL REFERENCES webhooks (webhook_id) ON DELETE CASCADE,
        event_id         TEXT NOT NULL,
        event_type       TEXT NOT NULL,
        body             BLOB NOT NULL,
        state            TEXT NOT NULL,
        attempts         INTEGER NOT NULL DEFAULT 0,
        next_attempt_at  INTEGER NOT NULL,
        owner            TEXT,
        leased_until     INTEGER,
        created_at       INTEGER NOT NULL,
        ended_at         INTEGER,
        status           INTEGER,
        error            TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (webhook_id, event_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX webhook_outbox_pending ON webhook_outbox
        (webhook_id, next_attempt_at, leased_until, created_at) WHERE state = 'pending';
    CREATE INDEX webhook_outbox_newest ON webhook_outbox (webhook_id, created_at, event_id);",
    // 8: what a person says of a symbol in place of the provider, and symbols that were deleted
    // while their bars stayed.
    "ALTER TABLE symbols ADD COLUMN custom_name TEXT;
    ALTER TABLE symbols ADD COLUMN custom_description TEXT;
    ALTER TABLE symbols ADD COLUMN custom_asset_type TEXT;
    ALTER TABLE symbols ADD COLUMN deleted_at INTEGER;",
    // 9: how a webhook's newest deliveries ended, however many wait.
    "CREATE INDEX webhook_outbox_ended ON webhook_outbox (webhook_id, created_at, event_id)
        WHERE state <> 'pending';",
];

/// Brings the database up to date, each step whole or not at all.
pub(super) fn migrate(connection: &mut Connection, data_dir: &Path) -> Result<(), DatabaseError> {
    let failed = |error| start_error(data_dir, &error);
    let version: u32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        return Err(DatabaseError::config(
            format!("the database in `{}` was written by a newer version", data_dir.display()),
            "run that version, or set DATA_DIR to another directory",
        ));
    }
    for (migration, next) in MIGRATIONS.iter().zip(1_u32..).skip(version) {
        let mut step = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", next)?;
            transaction.commit()
        };
        step().map_err(failed)?;
    }
    Ok(())
}
