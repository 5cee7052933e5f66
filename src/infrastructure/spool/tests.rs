//! The queue, with files that are cut off, damaged and full.

use std::fs::{self, OpenOptions};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const ROOMY: u64 = 16 << 20;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(folder: &TempDir) -> Spool {
    Spool::open(folder.path(), ROOMY, TaskTracker::new()).await.unwrap()
}

fn plain(text: &str) -> SpoolEntry {
    SpoolEntry { subject: None, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

fn about(subject: &str, text: &str) -> SpoolEntry {
    SpoolEntry { subject: Some(subject.to_owned()), ..plain(text) }
}

async fn texts(spool: &Spool) -> Vec<String> {
    let entries = spool.oldest(1_000, usize::MAX).await.unwrap();
    assert!(entries.is_sorted_by(|(a, _), (b, _)| a < b));
    let text = |(_, entry): (i64, SpoolEntry)| String::from_utf8(entry.bytes.to_vec()).unwrap();
    entries.into_iter().map(text).collect()
}

#[tokio::test]
async fn entries_come_out_as_they_went_in_and_stay_until_they_are_removed() {
    let folder = folder();
    let spool = open(&folder).await;
    assert_eq!(spool.count().await.unwrap(), 0);
    spool.append(vec![plain("a"), plain("b")]).await.unwrap();
    spool.append(vec![plain("c")]).await.unwrap();
    assert_eq!(texts(&spool).await, ["a", "b", "c"]);
    let two = spool.oldest(2, usize::MAX).await.unwrap();
    assert_eq!(two.len(), 2);
    assert_eq!(spool.oldest(9, 1).await.unwrap().len(), 1);
    spool.remove_through(two[1].0).await.unwrap();
    assert_eq!(texts(&spool).await, ["c"]);
}

#[tokio::test]
async fn a_newer_word_on_a_subject_takes_the_place_at_the_end() {
    let folder = folder();
    let spool = open(&folder).await;
    spool.append(vec![about("x", "x1"), about("y", "y1"), plain("a")]).await.unwrap();
    let being_written = spool.oldest(9, usize::MAX).await.unwrap().last().unwrap().0;
    spool.append(vec![about("x", "x2"), plain("b")]).await.unwrap();
    assert_eq!(texts(&spool).await, ["y1", "a", "x2", "b"]);
    // What came while the older entries were written is not removed with them.
    spool.remove_through(being_written).await.unwrap();
    assert_eq!(texts(&spool).await, ["x2", "b"]);
    // A place is not used again.
    let last = spool.oldest(9, usize::MAX).await.unwrap().last().unwrap().0;
    spool.remove_through(last).await.unwrap();
    spool.append(vec![plain("c")]).await.unwrap();
    assert!(spool.oldest(1, 1).await.unwrap()[0].0 > being_written + 2);
}

#[tokio::test]
async fn what_an_earlier_process_left_is_there() {
    let folder = folder();
    let spool = open(&folder).await;
    spool.append(vec![plain("a"), about("x", "x1")]).await.unwrap();
    drop(spool);
    assert_eq!(texts(&open(&folder).await).await, ["a", "x1"]);
}

#[tokio::test]
async fn a_second_process_is_told_at_once() {
    let folder = folder();
    let first = open(&folder).await;
    let in_use = SpoolError::Unusable("another process uses it".to_owned());
    let second = Spool::open(folder.path(), ROOMY, TaskTracker::new()).await;
    assert_eq!(second.unwrap_err(), in_use);
    first.append(vec![plain("a")]).await.unwrap();
    // Nor does it get in while the file is made anew.
    fs::remove_file(folder.path().join(SPOOL_FILE)).unwrap();
    let second = Spool::open(folder.path(), ROOMY, TaskTracker::new()).await;
    assert_eq!(second.unwrap_err(), in_use);
}

#[tokio::test]
async fn a_full_one_takes_nothing_of_a_batch_until_something_is_removed() {
    let folder = folder();
    let spool = Spool::open(folder.path(), 64 << 10, TaskTracker::new()).await.unwrap();
    let large = "x".repeat(10 << 10);
    let mut taken = 0_usize;
    let full = loop {
        match spool.append(vec![plain("small"), plain(&large)]).await {
            Ok(()) => taken += 2,
            Err(error) => break error,
        }
        assert!(taken < 20, "it is not bounded");
    };
    assert_eq!(full, SpoolError::Full);
    assert_eq!(texts(&spool).await.len(), taken);
    let size = fs::metadata(folder.path().join(SPOOL_FILE)).unwrap().len();
    assert!(size <= 64 << 10, "{size}");

    let oldest = spool.oldest(2, usize::MAX).await.unwrap();
    spool.remove_through(oldest[1].0).await.unwrap();
    spool.append(vec![plain(&large), plain("small")]).await.unwrap();
    assert_eq!(texts(&spool).await.len(), taken);
}

#[tokio::test]
async fn a_torn_write_costs_only_itself() {
    let folder = folder();
    let spool = open(&folder).await;
    spool.append(vec![plain("a")]).await.unwrap();
    spool.append(vec![plain("b")]).await.unwrap();
    // As a process that was killed leaves it: nothing is folded back into the file.
    let copy = tempfile::tempdir().unwrap();
    for name in [SPOOL_FILE.to_owned(), format!("{SPOOL_FILE}-wal")] {
        fs::copy(folder.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let wal = copy.path().join(format!("{SPOOL_FILE}-wal"));
    let whole = fs::metadata(&wal).unwrap().len();
    OpenOptions::new().write(true).open(&wal).unwrap().set_len(whole - 100).unwrap();
    assert_eq!(texts(&open(&copy).await).await, ["a"]);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside() {
    let folder = folder();
    fs::write(folder.path().join(SPOOL_FILE), "this is no database, and never was one".repeat(200))
        .unwrap();
    let spool = open(&folder).await;
    spool.append(vec![plain("a")]).await.unwrap();
    assert_eq!(texts(&spool).await, ["a"]);
    assert!(folder.path().join(format!("{SPOOL_FILE}.damaged")).exists());
}

/// A disk that takes no removals, as one does that is full.
fn take_no_removals(folder: &TempDir) {
    let refuse = "CREATE TRIGGER full BEFORE DELETE ON entries \
                  BEGIN SELECT RAISE(ABORT, 'no room'); END";
    file(folder).execute_batch(refuse).unwrap();
}

fn file(folder: &TempDir) -> Connection {
    Connection::open(folder.path().join(SPOOL_FILE)).unwrap()
}

#[tokio::test]
async fn what_the_disk_cannot_remove_is_gone_all_the_same() {
    let folder = folder();
    drop(open(&folder).await);
    take_no_removals(&folder);
    let spool = open(&folder).await;
    spool.claim("a".to_owned()).await.unwrap();
    spool.append(vec![plain("a"), plain("b"), plain("c")]).await.unwrap();
    let [a, b, c] = spool.oldest(9, usize::MAX).await.unwrap().try_into().unwrap();
    spool.remove_through(a.0).await.unwrap_err();
    assert_eq!(
        (texts(&spool).await, spool.count().await.unwrap()),
        (vec!["b".into(), "c".into()], 2)
    );
    spool.remove_through(b.0).await.unwrap_err();
    assert_eq!(texts(&spool).await, ["c"]);
    // The file is made anew: places go on, and it is still that of its database.
    spool.remove_through(c.0).await.unwrap();
    assert_eq!(spool.count().await.unwrap(), 0);
    spool.append(vec![plain("d")]).await.unwrap();
    assert!(spool.oldest(1, 1).await.unwrap()[0].0 > c.0);
    drop(spool);
    let spool = open(&folder).await;
    assert_eq!(texts(&spool).await, ["d"]);
    assert_eq!(spool.claim("b".to_owned()).await, Err(SpoolError::OfAnother));
}

#[tokio::test]
async fn one_that_cannot_be_made_anew_is_empty_until_it_can() {
    let folder = folder();
    drop(open(&folder).await);
    take_no_removals(&folder);
    let spool = open(&folder).await;
    spool.append(vec![plain("a")]).await.unwrap();
    let last = spool.oldest(1, usize::MAX).await.unwrap()[0].0;
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::rename(&path, elsewhere.join(path.file_name().unwrap())).unwrap();
        }
    }
    let in_its_way = folder.path().join(SPOOL_FILE);
    fs::create_dir(&in_its_way).unwrap();
    spool.remove_through(last).await.unwrap_err();
    assert!(texts(&spool).await.is_empty());
    spool.append(vec![plain("b")]).await.unwrap_err();
    fs::remove_dir(in_its_way).unwrap();
    spool.append(vec![plain("b")]).await.unwrap();
    assert_eq!(texts(&spool).await, ["b"]);
}

#[tokio::test]
async fn one_that_is_as_it_should_be_is_opened_without_a_write() {
    let folder = folder();
    let spool = open(&folder).await;
    spool.claim("a".to_owned()).await.unwrap();
    spool.append(vec![plain("a")]).await.unwrap();
    // As a process that was killed leaves it.
    let copy = tempfile::tempdir().unwrap();
    let names = [SPOOL_FILE.to_owned(), format!("{SPOOL_FILE}-wal")];
    for name in &names {
        fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let again = open(&copy).await;
    again.claim("a".to_owned()).await.unwrap();
    assert_eq!(texts(&again).await, ["a"]);
    for name in &names {
        let read = |folder: &TempDir| fs::read(folder.path().join(name)).unwrap();
        assert!(read(&copy) == read(&folder), "{name} was written to, and its disk may be full");
    }
}

#[tokio::test]
async fn one_that_cannot_be_made_leaves_nothing() {
    let folder = folder();
    let refused = Spool::open(folder.path(), 1, TaskTracker::new()).await;
    assert_eq!(refused.unwrap_err(), SpoolError::Full);
    assert!(!folder.path().join(SPOOL_FILE).exists());
    assert!(!Spool::may_hold(folder.path()));
    let spool = open(&folder).await;
    spool.append(vec![plain("a")]).await.unwrap();
    assert!(Spool::may_hold(folder.path()));
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_made_is_said() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = Spool::open(&file.join("data"), ROOMY, TaskTracker::new()).await;
    assert!(matches!(refused, Err(SpoolError::Unusable(_))), "{refused:?}");
}

#[tokio::test]
async fn what_waits_for_one_database_is_never_given_to_another() {
    let folder = folder();
    let spool = open(&folder).await;
    spool.claim("a".to_owned()).await.unwrap();
    spool.claim("b".to_owned()).await.unwrap();
    spool.append(vec![plain("of b")]).await.unwrap();
    assert_eq!(spool.claim("a".to_owned()).await, Err(SpoolError::OfAnother));
    drop(spool);

    let spool = open(&folder).await;
    assert_eq!(spool.claim("a".to_owned()).await, Err(SpoolError::OfAnother));
    spool.claim("b".to_owned()).await.unwrap();
    let last = spool.oldest(1, usize::MAX).await.unwrap()[0].0;
    spool.remove_through(last).await.unwrap();
    spool.claim("a".to_owned()).await.unwrap();
}

/// A file as the first version made it, with `and_more` in it.
fn first_form(folder: &TempDir, and_more: &str) {
    let first = "CREATE TABLE entries (place INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT UNIQUE, \
                 bytes BLOB NOT NULL); INSERT INTO entries (bytes) VALUES (x'61'); \
                 PRAGMA user_version = 1";
    file(folder).execute_batch(&format!("{first}; {and_more}")).unwrap();
}

#[tokio::test]
async fn a_file_of_the_first_form_goes_on_and_belongs_to_who_asks_first() {
    let folder = folder();
    first_form(&folder, "");
    let spool = open(&folder).await;
    assert_eq!(texts(&spool).await, ["a"]);
    spool.claim("a".to_owned()).await.unwrap();
    spool.append(vec![plain("b")]).await.unwrap();
    assert_eq!(texts(&spool).await, ["a", "b"]);
    assert_eq!(spool.claim("b".to_owned()).await, Err(SpoolError::OfAnother));
}

#[tokio::test]
async fn a_file_is_brought_up_to_date_in_one_step_or_not_at_all() {
    let folder = folder();
    first_form(&folder, "CREATE INDEX owner ON entries (bytes)");
    Spool::open(folder.path(), ROOMY, TaskTracker::new()).await.unwrap_err();
    let columns = "SELECT count(*) FROM pragma_table_info('entries')";
    let count: i64 = file(&folder).query_row(columns, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3, "a step was done, and its version not written");
    file(&folder).execute_batch("DROP INDEX owner").unwrap();
    assert_eq!(texts(&open(&folder).await).await, ["a"]);
}

#[tokio::test]
async fn a_file_that_an_earlier_version_left_between_two_steps_goes_on() {
    let folder = folder();
    first_form(&folder, "ALTER TABLE entries ADD COLUMN written_ms INTEGER NOT NULL DEFAULT 0");
    assert_eq!(texts(&open(&folder).await).await, ["a"]);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let folder = folder();
    drop(open(&folder).await);
    file(&folder).pragma_update(None, "user_version", 3).unwrap();
    let refused = Spool::open(folder.path(), ROOMY, TaskTracker::new()).await;
    let newer = SpoolError::Unusable("a newer version wrote it".to_owned());
    assert_eq!(refused.unwrap_err(), newer);
    let version = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    assert_eq!(file(&folder).pragma_query_value(None, "user_version", version).unwrap(), 3);
}
