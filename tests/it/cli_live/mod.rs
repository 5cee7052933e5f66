//! The commands of the live side, against a server that says what a script tells it to say.

mod script;

use std::process::{Output, Stdio};

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::stream_bars_request::From;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::{Code, Status};

use crate::processes::pocketquant;
use script::{Cuttable, Script, bar, bar_event, failure, feed, quote, quote_event};

/// What a finished command said.
struct Said {
    out: Vec<String>,
    err: String,
    code: Option<i32>,
}

impl std::convert::From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().or_else(|| panic!("{:?}", output.status)),
        }
    }
}

impl Said {
    /// Its lines, as JSON.
    fn json(&self) -> Vec<Value> {
        self.out.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn run(script: &Script, arguments: &[&str]) -> Said {
    let mut command = pocketquant(arguments);
    command.env("POCKETQUANT_SERVER", script.url()).output().await.unwrap().into()
}

/// Runs until `lines` lines were said, then interrupts it as Ctrl-C does.
async fn interrupted(script: &Script, arguments: &[&str], lines: usize) -> Said {
    let mut command = pocketquant(arguments);
    command.env("POCKETQUANT_SERVER", script.url());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while said.len() < lines {
        said.push(out.next_line().await.unwrap().expect("more lines"));
    }
    let pid = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(sent.success());
    let rest = Said::from(child.wait_with_output().await.unwrap());
    Said { out: said, ..rest }
}

/// The end of a stream that no other try can mend.
fn fatal() -> Status {
    failure(Code::Internal, "INTERNAL", "it is over")
}

fn quote_events() -> Vec<pb::QuoteEvent> {
    use pb::quote_event::Event;
    let refused = tonic_types::Status {
        code: Code::NotFound.into(),
        message: "no such symbol".to_owned(),
        details: Vec::new(),
    };
    [
        Event::Feed(feed(pb::ConnectionState::Connected, "")),
        Event::Quote(quote("CME:ES", 1640.25)),
        Event::Gap(pb::QuoteGap {
            symbol: "CME:ES".to_owned(),
            epoch: 7,
            from_sequence: 3,
            to_sequence: 5,
        }),
        Event::SymbolError(pb::SymbolError { symbol: "CME:NOPE".to_owned(), error: Some(refused) }),
        Event::Heartbeat(pb::Heartbeat {
            server_time: Some(prost_types::Timestamp { seconds: 60, nanos: 0 }),
        }),
        Event::Draining(pb::Draining { resume_after: Some(prost_types::Duration::default()) }),
    ]
    .map(quote_event)
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_are_lines_for_people_and_objects_for_programs() {
    let script = Script::start().await;
    let arguments = ["watch", "quotes", "cme:es", "--conflate", "250ms", "--no-reconnect"];

    script.quotes(quote_events().into_iter().map(Ok));
    let said = run(&script, &arguments).await;
    let expected = [
        "feed connected",
        "2013-09-02T10:00:00Z CME:ES last 1640.25 bid 1640 change -1.5 (-0.09 %) delay 10m sequence 2",
        "CME:ES gap: updates 3 to 5 were left out",
        "CME:NOPE error: NOT_FOUND: no such symbol",
        "draining: the server is stopping, back after 0s",
    ];
    assert_eq!(said.out, expected, "{}", said.err);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("the server is stopping"), "{}", said.err);
    let request = script.quote_requests().remove(0);
    assert_eq!(request.symbols, ["cme:es"]);
    assert_eq!(request.conflate.unwrap().nanos, 250_000_000);

    script.quotes(quote_events().into_iter().map(Ok));
    let said = run(&script, &[&arguments[..], &["--json"]].concat()).await;
    let expected = json!([
        {"event": "feed", "state": "connected"},
        {
            "event": "quote", "symbol": "CME:ES", "time": "2013-09-02T10:00:00Z",
            "last_price": 1640.25, "bid": 1640.0, "change": -1.5, "change_percent": -0.0914,
            "sequence": 2, "epoch": 7, "delay": "10m",
        },
        {"event": "gap", "symbol": "CME:ES", "epoch": 7, "from_sequence": 3, "to_sequence": 5},
        {
            "event": "symbol_error", "symbol": "CME:NOPE",
            "error": {"code": "NOT_FOUND", "message": "no such symbol"},
        },
        {"event": "heartbeat", "server_time": "1970-01-01T00:01:00Z"},
        {"event": "draining", "resume_after": "0s"},
    ]);
    assert_eq!(Value::from(said.json()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_connected_to_again() {
    let script = Script::start().await;
    script.quotes(quote_events().into_iter().map(Ok));
    script.quotes([Err(failure(Code::Unavailable, "DRAINING", "still stopping"))]);
    let event = quote_event(pb::quote_event::Event::Quote(quote("CME:ES", 1641.0)));
    script.quotes([Ok(event), Err(fatal())]);

    let said = run(&script, &["watch", "quotes", "CME:ES"]).await;
    assert_eq!(said.code, Some(1));
    assert_eq!(said.out.len(), 6, "{:?}", said.out);
    assert!(said.out[5].contains("last 1641 "), "{:?}", said.out);
    let expected = ["the server is stopping", "still stopping", "connected again", "it is over"];
    let places = expected.map(|text| said.err.find(text).expect(text));
    assert!(places.is_sorted(), "{}", said.err);
    assert_eq!(script.quote_requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_try_cannot_mend_ends_it_at_once() {
    let script = Script::start().await;
    script.quotes([Err(failure(Code::NotFound, "SYMBOL_NOT_FOUND", "nobody knows it"))]);
    let said = run(&script, &["watch", "quotes", "CME:NOPE"]).await;
    assert_eq!((said.code, script.quote_requests().len()), (Some(1), 1));
    assert!(said.err.contains("reason: SYMBOL_NOT_FOUND"), "{}", said.err);

    script.bars([Err(failure(Code::Unavailable, "DRAINING", "gone"))]);
    let said = run(&script, &["watch", "bars", "CME:ES", "--no-reconnect"]).await;
    assert_eq!((said.code, script.bar_requests().len()), (Some(1), 1));
    assert!(said.err.contains("UNAVAILABLE: gone"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_go_on_behind_the_last_cursor_and_none_comes_twice() {
    let script = Script::start().await;
    script.bars([
        Ok(bar(1, 1, "one")),
        Ok(bar(2, 1, "two")),
        Err(failure(Code::Unavailable, "DRAINING", "gone")),
    ]);
    script.bars([
        Ok(bar(2, 1, "two")),
        Ok(bar(2, 2, "three")),
        Ok(bar(3, 1, "four")),
        Err(fatal()),
    ]);

    let arguments = ["watch", "bars", "CME:ES", "-i", "1m", "-i", "5m", "--json"];
    let said = run(&script, &[&arguments[..], &["--from", "2013-09-02"]].concat()).await;
    assert_eq!(said.code, Some(1));
    let told: Vec<_> = said
        .json()
        .iter()
        .map(|line| (line["event"].clone(), line["revision"].clone(), line["cursor"].clone()))
        .collect();
    let expected = [
        ("bar".into(), 1.into(), "one".into()),
        ("bar".into(), 1.into(), "two".into()),
        ("disconnected".into(), Value::Null, Value::Null),
        ("reconnected".into(), Value::Null, Value::Null),
        ("bar".into(), 2.into(), "three".into()),
        ("bar".into(), 1.into(), "four".into()),
    ];
    assert_eq!(told, expected);
    assert_eq!(said.json()[2]["error"]["reason"], "DRAINING");

    let requests = script.bar_requests();
    let midnight = prost_types::Timestamp { seconds: 1_378_080_000, nanos: 0 };
    assert_eq!(requests[0].from, Some(From::StartTime(midnight)));
    assert_eq!(requests[1].from, Some(From::ResumeCursor("two".to_owned())));
    let lengths: [i32; 2] = [pb::Interval::Interval1m.into(), pb::Interval::Interval5m.into()];
    assert_eq!(requests[1].intervals, lengths);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_a_stream_of_bars_is_a_line_with_its_cursor() {
    use pb::bar_event::Event;
    let script = Script::start().await;
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let symbol = || "CME:ES".to_owned();
    let events = [
        bar(1, 1, "a"),
        bar_event(
            Event::IntervalClosed(pb::IntervalClosed {
                symbol: symbol(),
                interval: pb::Interval::Interval1m.into(),
                close_time: time(120),
            }),
            "b",
        ),
        bar_event(
            Event::Gap(pb::BarGap { symbol: symbol(), start_time: time(0), end_time: time(60) }),
            "c",
        ),
        bar_event(Event::Feed(feed(pb::ConnectionState::Reconnecting, "cut")), "d"),
        bar_event(Event::Heartbeat(pb::Heartbeat { server_time: time(0) }), "e"),
    ];
    let ended = || [Err(fatal())];
    script.bars(events.iter().cloned().map(Ok).chain(ended()));
    let said = run(&script, &["watch", "bars", "CME:ES", "--cursor", "mine"]).await;
    let expected = [
        "CME:ES 1m 1970-01-01T00:01:00Z closed open 1 high 4 low 0.5 close 2 revision 1 source ticks",
        "CME:ES 1m 1970-01-01T00:02:00Z interval closed",
        "CME:ES gap: the feed was away from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z",
        "feed reconnecting: cut",
    ];
    assert_eq!(said.out, expected, "{}", said.err);
    let request = script.bar_requests().remove(0);
    assert_eq!(request.from, Some(From::ResumeCursor("mine".to_owned())));

    script.bars(events.into_iter().map(Ok).chain(ended()));
    let lines = run(&script, &["watch", "bars", "CME:ES", "--json"]).await.json();
    let cursors: Vec<_> = lines.iter().map(|line| line["cursor"].as_str().unwrap()).collect();
    assert_eq!(cursors, ["a", "b", "c", "d", "e"]);
    let bar = json!({
        "event": "bar", "symbol": "CME:ES", "interval": "1m",
        "open_time": "1970-01-01T00:01:00Z", "close_time": "1970-01-01T00:02:00Z",
        "open": 1.0, "high": 4.0, "low": 0.5, "close": 2.0, "state": "closed", "revision": 1,
        "source": "ticks", "tick_count": 9, "cursor": "a",
    });
    assert_eq!(lines[0], bar);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_is_kept_across_runs() {
    let script = Script::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("es.cursor");
    let file = ["--cursor-file", path.to_str().unwrap()];
    let arguments = [&["watch", "bars", "CME:ES", "--from", "2013-09-02"][..], &file].concat();

    script.bars_for_ever([Ok(bar(1, 1, "one")), Ok(bar(2, 1, "two"))]);
    let said = interrupted(&script, &arguments, 2).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "Ctrl-C is how it ends");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");

    script.bars([Ok(bar(3, 1, "three")), Err(fatal())]);
    assert_eq!(run(&script, &arguments).await.out.len(), 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    let requests = script.bar_requests();
    assert!(matches!(requests[0].from, Some(From::StartTime(_))), "{requests:?}");
    assert_eq!(requests[1].from, Some(From::ResumeCursor("two".to_owned())));

    script.bars([Err(failure(Code::OutOfRange, "CURSOR_EXPIRED", "it is too old"))]);
    let said = run(&script, &arguments).await;
    assert_eq!(said.code, Some(1));
    for text in ["remove the file", "CURSOR_EXPIRED", path.to_str().unwrap()] {
        assert!(said.err.contains(text), "{text}: {}", said.err);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_made_again() {
    let script = Script::start().await;
    let proxy = Cuttable::start(script.address).await;
    script.bars_for_ever([Ok(bar(1, 1, "one"))]);
    script.bars([Ok(bar(1, 1, "one")), Ok(bar(2, 1, "two")), Err(fatal())]);
    let mut command = pocketquant(&["watch", "bars", "CME:ES", "--server", &proxy.url()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(out.next_line().await.unwrap().unwrap().contains("00:01:00Z"));
    proxy.cut();
    assert!(out.next_line().await.unwrap().unwrap().contains("00:02:00Z"));
    let said = Said::from(child.wait_with_output().await.unwrap());
    assert!(said.code == Some(1) && said.err.contains("lost the server"), "{}", said.err);
    let requests = script.bar_requests();
    assert_eq!(requests[1].from, Some(From::ResumeCursor("one".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_a_watch_quietly() {
    let script = Script::start().await;
    script.bars_for_ever((0..10_000).map(|minute| Ok(bar(minute, 1, "c"))));
    let mut command = pocketquant(&["watch", "bars", "CME:ES", "--json"]);
    command.env("POCKETQUANT_SERVER", script.url());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    out.next_line().await.unwrap().unwrap();
    drop(out);
    let said = Said::from(child.wait_with_output().await.unwrap());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_a_watch_are_exit_code_2() {
    for arguments in [
        &["watch"][..],
        &["watch", "quotes"],
        &["watch", "quotes", "A:B", "--conflate", "soon"],
        &["watch", "bars", "A:B", "-i", "7m"],
        &["watch", "bars", "A:B", "--from", "2024-01-31", "--cursor", "c"],
        &["watch", "bars", "A:B", "--cursor", "c", "--cursor-file", "f"],
        &["bars", "A:B", "--current", "--limit", "7"],
        &["feed"],
    ] {
        let said = Said::from(pocketquant(arguments).output().await.unwrap());
        assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_started_stopped_and_shown() {
    let script = Script::start().await;
    let said = run(&script, &["feed", "status"]).await;
    assert_eq!((said.code, said.out[0].as_str()), (Some(0), "state            stopped"));
    let said = run(&script, &["feed", "start"]).await;
    assert_eq!(said.out[0], "state            connected");
    let said = run(&script, &["feed", "start"]).await;
    assert_eq!(said.out[0], "state            connected (it was started already)");
    let said = run(&script, &["feed", "stop", "--json"]).await;
    let status: Value = serde_json::from_str(&said.out.concat()).unwrap();
    assert_eq!((&status["state"], &status["unchanged"]), (&"stopped".into(), &false.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn symbols_are_subscribed_one_by_one_and_each_failure_is_named() {
    let script = Script::start().await;
    let said = run(&script, &["subscribe", "CME:ES", "nonsense", "NYSE:IBM"]).await;
    assert_eq!((said.code, said.out.len()), (Some(1), 3), "{:?}", said.out);
    assert!(said.err.contains("nonsense: INVALID_ARGUMENT"), "{}", said.err);

    let said = run(&script, &["subscriptions", "--json"]).await;
    let found: Value = serde_json::from_str(&said.out.concat()).unwrap();
    assert_eq!((&found[0]["symbol"], &found[1]["symbol"]), (&"CME:ES".into(), &"NYSE:IBM".into()));
    assert_eq!(found[0]["state"], "active");

    let said = run(&script, &["unsubscribe", "CME:ES", "CME:NQ", "--json"]).await;
    assert_eq!((said.code, said.err.as_str()), (Some(1), ""));
    let reports: Value = serde_json::from_str(&said.out.concat()).unwrap();
    assert_eq!(reports[1]["error"]["reason"], "NOT_SUBSCRIBED");
    assert_eq!(run(&script, &["subscriptions"]).await.out.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_quotes_and_the_forming_bar_are_shown() {
    let script = Script::start().await;
    let said = run(&script, &["quote", "CME:ES"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out[1].starts_with("CME:ES") && said.out[1].contains("1640.25"), "{:?}", said.out);
    let said = run(&script, &["quote", "CME:ES", "CME:NQ", "--json"]).await;
    let found: Value = serde_json::from_str(&said.out.concat()).unwrap();
    assert_eq!((said.code, &found[0]["last_price"]), (Some(1), &1640.25.into()));
    assert_eq!(found[1]["error"]["reason"], "NO_QUOTE");

    let said = run(&script, &["bars", "CME:ES", "-i", "1m", "--current", "--json"]).await;
    let found: Value = serde_json::from_str(&said.out.concat()).unwrap();
    assert_eq!((&found["bars"][0]["state"], &found["bars"][1]), (&"forming".into(), &Value::Null));
}
