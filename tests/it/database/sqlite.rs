//! What only the embedded engine has: a directory, and other programs at its file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use pocketquant::domain::shared::Interval;
use pocketquant::infrastructure::persistence::{Database, DatabaseConfig, DatabaseError};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::{Store, all, closed, inserted, is_unavailable, series, time, write};

async fn open(folder: &Path) -> Result<Database, DatabaseError> {
    let config = DatabaseConfig::Sqlite { data_dir: folder.to_owned() };
    Database::connect(config, TaskTracker::new()).await
}

/// What start-up says, which must be a mistake in the settings.
async fn refusal(folder: &Path) -> String {
    let error = open(folder).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Config { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_directory_in_use_is_refused_by_name_and_free_after_a_close() {
    let store = Store::sqlite().await;
    let folder = store.folder.as_ref().unwrap().path();
    let refused = refusal(folder).await;
    assert!(refused.contains("in use") && refused.contains(folder.to_str().unwrap()), "{refused}");
    let series = series("NASDAQ:AAPL", Interval::M1);
    write(&store.database, &series, &inserted([closed(0, 1.0)])).await;
    store.database.close().await;
    assert!(is_unavailable(&store.database.ping().await));
    drop(store.database);
    let again = open(folder).await.unwrap();
    assert_eq!(all(&again, &series).await, [closed(0, 1.0)]);
}

#[tokio::test]
async fn a_new_directory_is_its_owners_alone() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("deep/data");
    let database = open(&folder).await.unwrap();
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert!(folder.join("pocketquant.db").is_file());
    database.ping().await.unwrap();
    assert_eq!(database.engine(), "sqlite");
}

#[tokio::test]
async fn what_cannot_be_a_database_is_refused_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(refusal(&file).await.contains("DATA_DIR"));
    std::fs::write(folder.path().join("pocketquant.db"), "no database, but long enough".repeat(50))
        .unwrap();
    assert!(refusal(folder.path()).await.contains("DATA_DIR"));
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(open(folder.path()).await.unwrap());
    let other = Connection::open(folder.path().join("pocketquant.db")).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    assert!(refusal(folder.path()).await.contains("newer version"));
}

#[tokio::test]
async fn the_file_reads_well_in_other_programs() {
    let store = Store::sqlite().await;
    let file = store.folder.as_ref().unwrap().path().join("pocketquant.db");
    let bars = inserted([closed(0, 1.5)]);
    write(&store.database, &series("NASDAQ:AAPL", Interval::Mo1), &bars).await;
    let other = Connection::open(file).unwrap();
    let row: (String, String, String, String, f64) = other
        .query_row("SELECT symbol, interval, open_time, state, close FROM bars", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap();
    let expected = ("NASDAQ:AAPL", "1M", "2024-01-01T00:00:00.000Z", "CLOSED", 1.5);
    assert_eq!((&*row.0, &*row.1, &*row.2, &*row.3, row.4), expected);
}

#[tokio::test]
async fn a_lock_held_by_another_program_is_unavailable_and_passes() {
    let store = Store::sqlite().await;
    let file = store.folder.as_ref().unwrap().path().join("pocketquant.db");
    let series = series("NASDAQ:AAPL", Interval::M1);
    let other = Connection::open(file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let diff = inserted([closed(0, 1.0)]);
    let written = store.database.bars().write(&series, &diff, time(0)).await;
    assert!(is_unavailable(&written), "{written:?}");
    assert_eq!(all(&store.database, &series).await, [], "readers go on");
    other.execute_batch("ROLLBACK").unwrap();
    write(&store.database, &series, &diff).await;
    assert_eq!(all(&store.database, &series).await, [closed(0, 1.0)]);
}

/// What `claim` sees to, the file sees to as well.
#[tokio::test]
async fn a_second_run_of_a_job_or_of_its_instant_is_no_row() {
    let store = Store::sqlite().await;
    let file = store.folder.as_ref().unwrap().path().join("pocketquant.db");
    let other = Connection::open(file).unwrap();
    let insert = |run_id: &str, instant: Option<i64>, ended_at: Option<i64>| {
        let sql = "INSERT INTO job_runs (run_id, job_id, instant, attempt, started_at, owner, \
             leased_until, ended_at) VALUES (?1, 'job', ?2, 1, 0, 'me', 0, ?3)";
        other.execute(sql, rusqlite::params![run_id, instant, ended_at]).is_ok()
    };
    assert!(insert("running", Some(1), None));
    assert!(!insert("beside it", Some(2), None) && !insert("by hand", None, None));
    assert!(insert("ended", Some(3), Some(4)));
    assert!(!insert("again", Some(3), Some(4)));
    assert!(insert("by hand", None, Some(4)) && insert("and again", None, Some(4)));
}
