//! A world that moves: trades replayed as updates.

use pocketquant::simulator::Pace;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Running;
use super::client::Heard;
use super::faults::reqwest_client;
use super::watcher::{START, STILL, TRADES, Watcher, folder, many, moving};

#[tokio::test]
async fn before_the_first_trade_there_is_no_price_and_then_only_what_changed_comes() {
    let simulator = Running::start(moving(&folder(TRADES), Pace::Max)).await;
    let mut es =
        Watcher::of(&simulator, "CME:ES", &["lp", "lp_time", "volume", "current_session"]).await;
    assert_eq!(
        Value::Object(es.merged.clone()),
        json!({"volume": 0.0, "current_session": "market"})
    );
    let expected = [
        json!({"lp": 1640.25, "lp_time": START, "volume": 8.0}),
        json!({"volume": 16.0}),
        json!({"volume": 24.0}),
        json!({"lp": 1639.5, "lp_time": START + 59, "volume": 25.0}),
        json!({"lp": 1641.0, "lp_time": START + 60, "volume": 27.0}),
        json!({"lp": 1640.0, "lp_time": START + 104, "volume": 30.0}),
    ];
    assert_eq!(es.until_the_end().await, expected);
    // The second minute boundary after 14:01:44.
    assert_eq!(es.get("lp_time"), START + 180);
}

#[tokio::test]
async fn a_full_quote_has_the_day_and_the_book_with_it() {
    let simulator = Running::start(moving(&folder(TRADES), Pace::Max)).await;
    let mut es = Watcher::of(&simulator, "CME:ES", &[]).await;
    assert_eq!((es.get("bid"), es.get("description")), (Value::Null, json!("E-mini")));
    assert!(!es.merged.contains_key("lp"));
    es.until_the_end().await;
    for (field, value) in [
        ("open_price", json!(1640.25)),
        ("high_price", json!(1641.0)),
        ("low_price", json!(1639.5)),
        // It fell: who sold took the bid. A tick is a quarter.
        ("bid", json!(1640.0)),
        ("ask", json!(1640.25)),
        ("trade_loaded", json!(true)),
        ("market-status", json!({"phase": "out-of-session"})),
        // 22:00Z of the evening before.
        ("open_time", json!(START - 16 * 3_600)),
    ] {
        assert_eq!(es.get(field), value, "{field}");
    }
}

#[tokio::test]
async fn at_full_speed_every_trade_comes_in_order_and_many_in_a_message() {
    let (trades, volumes) = many(30_000);
    let simulator = Running::start(moving(&folder(&trades), Pace::Max)).await;
    let mut es = Watcher::of(&simulator, "CME:ES", &["volume", "current_session"]).await;
    let (mut heard, mut messages) = (Vec::new(), std::collections::BTreeSet::new());
    loop {
        match es.client.hear().await {
            Heard::Json(message, number) => {
                messages.insert(number);
                let update = es.merge(&message);
                if update["current_session"] == "out_of_session" {
                    break;
                }
                heard.push(update["volume"].as_f64().unwrap());
            }
            Heard::Heartbeat(_) => {}
            other @ (Heard::Rubbish(_) | Heard::End) => panic!("{other:?}"),
        }
    }
    assert!(heard == volumes, "{} of {}", heard.len(), volumes.len());
    assert!(messages.len() < volumes.len() / 10, "{}", messages.len());
    assert_eq!(simulator.control.stats().conflations, 0);
}

/// Hears the day's volume of each update until the price is `last`, and passes it on.
async fn volumes_until(watcher: &mut Watcher, last: f64, heard: &watch::Sender<f64>) -> Vec<f64> {
    let mut volumes = Vec::new();
    while watcher.get("lp") != last {
        volumes.push(watcher.update().await["volume"].as_f64().unwrap());
        heard.send_replace(watcher.get("volume").as_f64().unwrap());
    }
    volumes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_in_the_middle_misses_nothing_and_hears_nothing_twice() {
    let folder = folder(TRADES);
    let simulator = Running::start(moving(&folder, STILL)).await;
    let fields = ["lp", "volume", "current_session"];
    let mut early = Watcher::of(&simulator, "CME:ES", &fields).await;
    let (heard, mut hearing) = watch::channel(0.0);
    let (joined, joining) = watch::channel(false);
    let control = simulator.control.clone();
    // Goes on all the time, never far ahead of who hears it, and ends well after the second joined.
    let market = tokio::spawn(async move {
        let (mut told, mut left) = (0.0, 1_000);
        while left > 0 {
            hearing.wait_for(|heard| told - heard < 200.0).await.unwrap();
            control.tick("CME:ES", None, told, Some(1.0)).unwrap();
            told += 1.0;
            left -= i32::from(*joining.borrow());
        }
        control.tick("CME:ES", None, -1.0, Some(1.0)).unwrap();
    });
    let second = async {
        let mut late = Watcher::of(&simulator, "CME:ES", &fields).await;
        let first = late.get("volume").as_f64().unwrap();
        joined.send_replace(true);
        let volumes = volumes_until(&mut late, -1.0, &watch::Sender::new(0.0)).await;
        (first, volumes, late.merged)
    };
    let (_, (first, volumes, merged)) =
        tokio::join!(volumes_until(&mut early, -1.0, &heard), second);
    market.await.unwrap();
    assert!(volumes.len() >= 1_000 && first > 16.0, "{} after {first}", volumes.len());
    let mut next = first;
    for volume in volumes {
        next += 1.0;
        assert!(volume.total_cmp(&next).is_eq(), "{volume} in place of {next}");
    }
    assert_eq!(early.merged, merged);
}

#[tokio::test]
async fn a_session_break_is_told_and_the_next_day_counts_from_nothing() {
    // The halt of Labor Day: 15:30Z until 22:00Z.
    let trades = "time,price,size\n\
        2013-09-02T15:29:59Z,1640,5\n\
        2013-09-02T22:00:00.5Z,1641,2\n";
    let simulator = Running::start(moving(&folder(trades), Pace::Max)).await;
    let fields = ["lp", "lp_time", "volume", "current_session", "prev_close_price"];
    let mut es = Watcher::of(&simulator, "CME:ES", &fields).await;
    let close = 1_378_135_800;
    for expected in [
        json!({"lp": 1640.0, "lp_time": close - 1, "volume": 5.0}),
        json!({"current_session": "out_of_session"}),
        json!({"current_session": "market"}),
        json!({"lp": 1641.0, "lp_time": 1_378_159_200, "volume": 2.0, "prev_close_price": 1640.0}),
        json!({"current_session": "out_of_session", "lp_time": 1_378_159_320}),
    ] {
        assert_eq!(es.update().await, expected);
    }
}

#[tokio::test]
async fn two_connections_share_a_replay_and_it_goes_on_without_them() {
    let (trades, volumes) = many(400);
    let simulator = Running::start(moving(&folder(&trades), Pace::Rate(2_000.0))).await;
    let fields = ["volume", "current_session"];
    let first = Watcher::of(&simulator, "CME:ES", &fields).await;
    drop(first);
    // Whoever comes now finds a market that has not waited.
    let http = reqwest_client();
    let url = format!("{}/_sim/stats", simulator.http_url);
    let replay = loop {
        let stats = http.get(&url).send().await.unwrap().text().await.unwrap();
        let stats: Value = serde_json::from_str(&stats).unwrap();
        let replay = stats["replays"][0].clone();
        if replay["ended"] == true {
            break replay;
        }
    };
    let position = jiff::Timestamp::from_second(START + 180).unwrap().to_string();
    assert_eq!(
        replay,
        json!({"symbol": "CME:ES", "position": position, "started": true, "ended": true,
            "pass": 1, "index": 400, "trades": 400, "updates": 400})
    );
    let late = Watcher::of(&simulator, "CME:ES", &fields).await;
    assert_eq!(late.get("volume"), volumes[399]);
    assert_eq!(late.get("current_session"), "out_of_session");
}

#[tokio::test]
async fn a_session_rests_and_wakes_to_the_newest() {
    let simulator = Running::start(moving(&folder(TRADES), STILL)).await;
    let mut es = Watcher::of(&simulator, "CME:ES", &["lp", "volume"]).await;
    // The two that are due at once.
    es.update().await;
    es.update().await;
    es.client.say("quote_hibernate_all", json!(["qs_1"])).await;
    // Once this is answered, the session rests.
    es.client.say("quote_add_symbols", json!(["qs_1", "NASDAQ:NOPE"])).await;
    assert_eq!(es.client.expect("qsd").await[1]["s"], "error");
    es.client.expect("quote_completed").await;
    for price in [1.0, 2.0] {
        simulator.control.tick("CME:ES", None, price, Some(1.0)).unwrap();
    }
    es.client.say("quote_fast_symbols", json!(["qs_1", "CME:ES"])).await;
    assert_eq!(es.update().await, json!({"lp": 2.0, "volume": 18.0}));
}
