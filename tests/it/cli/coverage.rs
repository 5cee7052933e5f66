//! `coverage` and `repair`.

use serde_json::{Value, json};

use super::Running;

/// A table's rows, as their words.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_says_why_there_are_bars_or_none() {
    let running = Running::start(&[]).await;
    running.sync("NYSE:IBM", "1d").await;
    let christmas = ["--from", "2012-12-21T14:30:00Z", "--to", "2012-12-26T14:30:00Z"];

    let said =
        running.call(&[&["coverage", "nyse:ibm", "-i", "1d"][..], &christmas].concat()).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let [friday, saturday, monday, tuesday, wednesday] =
        [21, 22, 24, 25, 26].map(|day| format!("2012-12-{day}T14:30:00Z"));
    let expected = [
        ["from", "to", "reason", "bars"],
        [&friday, &saturday, "data", "1"],
        [&saturday, &monday, "market_closed", "0"],
        [&monday, &tuesday, "data", "1"],
        [&tuesday, &wednesday, "market_closed", "0"],
    ];
    assert_eq!(rows(&said.out), expected);

    let arguments = [&["coverage", "nyse:ibm", "--json"][..], &christmas].concat();
    let said = running.call(&arguments).await;
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&json["symbol"], &json["interval"]), (&json!("NYSE:IBM"), &json!("1d")));
    let segment = |row: &[&str; 4]| {
        let bars: i32 = row[3].parse().unwrap();
        json!({"start_time": row[0], "end_time": row[1], "reason": row[2], "bar_count": bars})
    };
    assert_eq!(json["segments"], expected[1..].iter().map(segment).collect::<Value>());

    // To this moment, where nothing else is said.
    let said = running.call(&["coverage", "NYSE:IBM", "--from", "2013-03-01T14:30:00Z"]).await;
    let rows = rows(&said.out);
    assert_eq!(rows[1][1..], ["2013-03-02T14:30:00Z", "data", "1"]);
    assert!(rows.last().unwrap()[1] > "2026", "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_shows_what_was_missing_and_is_not_any_more() {
    let running = Running::start(&[]).await;
    let january = ["--from", "2013-01-02T14:30:00Z", "--to", "2013-01-05T14:30:00Z"];
    let arguments = [&["repair", "NASDAQ:AAPL-UNADJ", "-i", "1d"][..], &january].concat();
    let with_json = [&arguments[..], &["--json"]].concat();

    let said = running.call(&arguments).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let table = rows(&said.out);
    assert_eq!(table[0], ["from", "to", "reason", "bars"]);
    assert_eq!(table[1], ["2013-01-02T14:30:00Z", "2013-01-05T14:30:00Z", "data", "3"]);
    let [fetched, "bars", "fetched,", inserted, "inserted"] = table[2][..] else {
        panic!("{}", said.out)
    };
    assert_eq!(fetched, inserted);
    assert!(table.len() == 3 && fetched.parse::<usize>().unwrap() >= 42, "{}", said.out);
    let again = running.call(&arguments).await;
    assert_eq!((again.code, again.out.as_str()), (Some(0), "nothing repaired; 0 bars fetched\n"));

    let said = running.call(&with_json).await;
    let json: Value = serde_json::from_str(&said.out).unwrap();
    let counts = ["bars_fetched", "bars_inserted", "bars_updated", "bars_unchanged"];
    assert!(counts.iter().all(|count| json[count] == 0), "{json}");
    assert_eq!(json["total_bars"].to_string(), fetched);
    assert_eq!((&json["segments"], &json["interval"]), (&json!([]), &json!("1d")));

    let arguments = [&["repair", "NYSE:IBM", "--json"][..], &january].concat();
    let json: Value = serde_json::from_str(&running.call(&arguments).await.out).unwrap();
    let segment = json!({
        "start_time": january[1], "end_time": january[3], "reason": "data", "bar_count": 3,
    });
    assert_eq!((&json["symbol"], &json["segments"]), (&json!("NYSE:IBM"), &json!([segment])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_that_cannot_be_shown_is_said_why() {
    let running = Running::start(&[]).await;
    for command in ["coverage", "repair"] {
        let said = running.call(&[command, "NYSE:IBM"]).await;
        assert!(said.code == Some(2) && said.err.contains("--from"), "{}", said.err);
        let backwards = ["--from", "2013-02-01", "--to", "2013-01-01"];
        let said = running.call(&[&[command, "NYSE:IBM"][..], &backwards].concat()).await;
        assert!(said.code == Some(1) && said.out.is_empty(), "{}", said.out);
        assert!(
            said.err.contains("INVALID_FIELDS") && said.err.contains("end_time"),
            "{}",
            said.err
        );
    }
    let said = running.call(&["coverage", "NYSE:IBM", "--from", "2013-01-01"]).await;
    assert!(said.code == Some(1) && said.err.contains("NOT_SYNCED"), "{}", said.err);
    let said = running.call(&["repair", "NYSE:NOPE", "--from", "2013-01-01"]).await;
    assert!(said.code == Some(1) && said.err.contains("SYMBOL_NOT_FOUND"), "{}", said.err);
}
