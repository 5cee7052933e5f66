//! What SQLite says of a disk that takes nothing, in terms that callers can act on.

use super::*;

#[test]
fn a_full_disk_and_one_that_cannot_be_written_may_pass() {
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&folder.path().join(FILE)).unwrap();
    connection.execute_batch("CREATE TABLE rows (value BLOB)").unwrap();
    let insert = || connection.execute("INSERT INTO rows VALUES (zeroblob(100000))", []);

    connection.pragma_update(None, "max_page_count", 4).unwrap();
    let full = database_error(insert().unwrap_err());
    assert!(full.is_transient(), "{full}");
    connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();

    connection.pragma_update(None, "query_only", true).unwrap();
    let read_only = database_error(insert().unwrap_err());
    assert!(read_only.is_transient(), "{read_only}");
    connection.pragma_update(None, "query_only", false).unwrap();

    assert_eq!(insert().unwrap(), 1);
}
