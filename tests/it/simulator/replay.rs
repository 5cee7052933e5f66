//! A world that moves: trades replayed as updates, and history that ends where the replay is.

use pocketquant::simulator::{Pace, Rebase, ReplayConfig, SimulatorConfig};
use serde_json::{Map, Value, json};

use tokio::sync::watch;

use super::client::{Client, Heard};
use super::faults::reqwest_client;
use super::{Folder, Running};

/// Six trades in two minutes, three of which look alike.
pub const TRADES: &str = "time,price,size\n\
    2013-09-03T14:00:00.083Z,1640.25,8\n\
    2013-09-03T14:00:00.083Z,1640.25,8\n\
    2013-09-03T14:00:00.900Z,1640.25,8\n\
    2013-09-03T14:00:59.999Z,1639.5,1\n\
    2013-09-03T14:01:00.000Z,1641,2\n\
    2013-09-03T14:01:44.578Z,1640,3\n";

/// 2013-09-03T14:00:00Z.
pub const START: i64 = 1_378_216_800;

/// A folder with trades of CME:ES alone, and its calendar.
pub fn folder(trades: &str) -> Folder {
    let folder = Folder::small();
    folder.put_trades("CME_ES_trades.csv.gz", trades);
    folder
}

pub fn moving(folder: &Folder, pace: Pace) -> SimulatorConfig {
    let replay = Some(ReplayConfig { pace, ..ReplayConfig::default() });
    SimulatorConfig { replay, ..folder.config() }
}

/// A market so slow that nothing happens after what is due at once.
pub const STILL: Pace = Pace::Speed(1e-6);

/// A client that hears of one symbol.
pub struct Watcher {
    pub client: Client,
    pub merged: Map<String, Value>,
}

impl Watcher {
    pub async fn of(simulator: &Running, symbol: &str, fields: &[&str]) -> Self {
        let mut client = Client::greeted(&simulator.ws_url).await;
        client.say("quote_create_session", json!(["qs_1"])).await;
        if !fields.is_empty() {
            let mut parameters = vec!["qs_1"];
            parameters.extend(fields);
            client.say("quote_set_fields", json!(parameters)).await;
        }
        client.say("quote_add_symbols", json!(["qs_1", symbol])).await;
        let mut watcher = Self { client, merged: Map::new() };
        loop {
            let message = watcher.client.json().await;
            if message["m"] == "quote_completed" {
                return watcher;
            }
            watcher.merge(&message);
        }
    }

    fn merge(&mut self, message: &Value) -> Value {
        assert_eq!(message["m"], "qsd", "{message}");
        let values = message["p"][1]["v"].clone();
        self.merged.extend(values.as_object().unwrap().clone());
        values
    }

    /// The next update, as it came.
    pub async fn update(&mut self) -> Value {
        let message = self.client.json().await;
        self.merge(&message)
    }

    /// The updates up to the one that says that the session is over, without it.
    async fn to_the_end(&mut self) -> Vec<Value> {
        let mut updates = Vec::new();
        loop {
            let update = self.update().await;
            if update["current_session"] == "out_of_session" {
                return updates;
            }
            updates.push(update);
        }
    }

    fn get(&self, field: &str) -> Value {
        self.merged.get(field).cloned().unwrap_or_default()
    }
}

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
    assert_eq!(es.to_the_end().await, expected);
    // The second minute boundary after 14:01:44.
    assert_eq!(es.get("lp_time"), START + 180);
}

#[tokio::test]
async fn a_full_quote_has_the_day_and_the_book_with_it() {
    let simulator = Running::start(moving(&folder(TRADES), Pace::Max)).await;
    let mut es = Watcher::of(&simulator, "CME:ES", &[]).await;
    assert_eq!((es.get("bid"), es.get("description")), (Value::Null, json!("E-mini")));
    assert!(!es.merged.contains_key("lp"));
    es.to_the_end().await;
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

/// `count` trades, one every 250 ms, of changing price and size.
fn many(count: u32) -> (String, Vec<f64>) {
    use std::fmt::Write as _;
    let mut text = "time,price,size\n".to_owned();
    let (mut volume, mut volumes) = (0.0, Vec::new());
    for number in 0..count {
        let time =
            jiff::Timestamp::from_millisecond(START * 1_000 + i64::from(number) * 250).unwrap();
        writeln!(text, "{time},{},{}", 1_600 + number % 7, 1 + number % 3).unwrap();
        volume += f64::from(1 + number % 3);
        volumes.push(volume);
    }
    (text, volumes)
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
async fn history_ends_where_the_replay_is_and_says_so() {
    let (trades, volumes) = many(2_000);
    // The first trade, and nothing more for a day.
    let simulator = Running::start(moving(&folder(&trades), STILL)).await;
    let history = async || {
        let mut client = Client::greeted(&simulator.ws_url).await;
        client.open_chart("CME:ES").await;
        let resolved = client.json().await["t_ms"].as_i64().unwrap();
        client.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1", 9, ""])).await;
        client.expect("series_loading").await;
        let update = client.json().await;
        assert_eq!(update["m"], "timescale_update");
        let series = &update["p"][1]["s1"];
        let bars: Vec<Value> =
            series["s"].as_array().unwrap().iter().map(|bar| bar["v"].clone()).collect();
        assert_eq!((resolved, resolved / 1_000), (update["t_ms"].as_i64().unwrap(), START));
        (bars, series["lbs"]["bar_close_time"].as_i64())
    };
    assert_eq!(history().await, (Vec::new(), None));
    let mut es = Watcher::of(&simulator, "CME:ES", &["volume"]).await;
    assert_eq!(es.update().await["volume"], volumes[0]);
    // The market is where it was, and now there is a bar.
    let bar = json!([f64::from(1_378_216_800), 1600.0, 1600.0, 1600.0, 1600.0, 1.0]);
    assert_eq!(history().await, (vec![bar], Some(START + 60)));
}

#[tokio::test]
async fn after_the_replay_history_is_what_its_trades_come_to() {
    let (trades, _) = many(2_000);
    let folder = folder(&trades);
    let standing = Running::start(folder.config()).await;
    let moving = Running::start(moving(&folder, Pace::Max)).await;
    Watcher::of(&moving, "CME:ES", &["volume", "current_session"]).await.to_the_end().await;
    for resolution in ["1", "5", "60", "1D", "1W", "1M"] {
        let of = async |simulator: &Running| {
            Client::greeted(&simulator.ws_url).await.bars("CME:ES", resolution).await
        };
        let (still, moved) = (of(&standing).await, of(&moving).await);
        assert_eq!(still, moved, "{resolution}");
        assert!(!moved.is_empty());
    }
}

#[tokio::test]
async fn bars_of_files_come_before_those_of_trades_and_the_day_goes_on() {
    let folder = folder(TRADES);
    folder.put(
        "CME_ES_1m.csv",
        "time,open,high,low,close,volume\n\
         2013-09-03T13:58:00Z,1500,1700,1500,1600,10\n\
         2013-09-03T14:00:00Z,1,1,1,1,1\n\
         2013-09-03T14:05:00Z,1,1,1,1,1\n",
    );
    folder.put(
        "CME_ES_1d.csv",
        "time,open,high,low,close,volume\n\
         2013-09-02,1,2,1,1550,5\n\
         2013-09-03,1,1,1,1,1\n",
    );
    let simulator = Running::start(moving(&folder, Pace::Max)).await;
    let mut es = Watcher::of(&simulator, "CME:ES", &[]).await;
    // The day has begun: its earlier trades count.
    assert_eq!((es.get("lp"), es.get("volume")), (json!(1600.0), json!(10.0)));
    assert_eq!(es.get("prev_close_price"), 1550.0);
    es.to_the_end().await;
    assert_eq!((es.get("volume"), es.get("ch")), (json!(40.0), json!(90.0)));
    let bars = async |resolution: &str| {
        Client::greeted(&simulator.ws_url).await.bars("CME:ES", resolution).await
    };
    let times: Vec<i64> =
        bars("1").await.iter().map(|bar| bar[0].as_f64().unwrap() as i64 - START).collect();
    assert_eq!(times, [-120, 0, 60]);
    let days = bars("1D").await;
    assert_eq!(days[1], json!([days[1][0], 1500.0, 1700.0, 1500.0, 1640.0, 40.0]));
    assert_eq!(days.len(), 2);
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
async fn a_loop_goes_on_whole_weeks_later() {
    let folder = folder(TRADES);
    let mut config = moving(&folder, Pace::Max);
    config.replay.as_mut().unwrap().looping = true;
    let simulator = Running::start(config).await;
    let fields = ["lp", "lp_time", "volume", "current_session"];
    let mut es = Watcher::of(&simulator, "CME:ES", &fields).await;
    es.to_the_end().await;
    for pass in 1..=60 {
        assert_eq!(es.update().await, json!({"current_session": "market"}));
        let updates = es.to_the_end().await;
        assert_eq!((updates.len(), updates[0]["volume"].clone()), (6, json!(8.0)), "{pass}");
        // By the clock of Chicago, where summer ends on 2013-11-03, and begins on 2014-03-09.
        let winter = if (9..27).contains(&pass) { 3_600 } else { 0 };
        assert_eq!(updates[0]["lp_time"], START + pass * 7 * 86_400 + winter);
    }
}

#[tokio::test]
async fn trades_are_moved_to_a_time_and_keep_a_calendar_that_suits_them() {
    let folder = folder(TRADES);
    let rebased = async |to: &str| {
        let mut config = moving(&folder, Pace::Max);
        config.replay.as_mut().unwrap().rebase = Some(to.parse().unwrap());
        let simulator = Running::start(config).await;
        let mut es = Watcher::of(&simulator, "CME:ES", &["lp", "lp_time", "session"]).await;
        assert_eq!(es.update().await["lp"], 1640.25);
        let mut client = Client::greeted(&simulator.ws_url).await;
        client.open_chart("CME:ES").await;
        let session = client.expect("symbol_resolved").await[2]["session"].clone();
        assert_eq!(session, es.get("session"));
        (es.get("lp_time").as_i64().unwrap(), session)
    };
    // A Tuesday, and a Saturday.
    assert_eq!(rebased("2024-01-09T12:34:56Z").await, (1_704_803_696, json!("1700-1600")));
    assert_eq!(rebased("2024-01-13T12:34:56Z").await, (1_705_149_296, json!("24x7")));
}

#[tokio::test]
async fn moved_to_now_the_first_trade_is_now() {
    let folder = Folder::empty();
    folder.put_trades("CME_ES_trades.csv.gz", TRADES);
    let mut config = moving(&folder, Pace::Speed(1.0));
    config.replay.as_mut().unwrap().rebase = Some(Rebase::Now);
    let simulator = Running::start(config).await;
    let before = jiff::Timestamp::now().as_second();
    let mut es = Watcher::of(&simulator, "CME:ES", &["lp_time"]).await;
    let traded = es.update().await["lp_time"].as_i64().unwrap();
    assert!((before..=jiff::Timestamp::now().as_second()).contains(&traded), "{traded}");
}

#[tokio::test]
async fn bars_without_trades_stand_still_or_are_walked() {
    let folder = Folder::small();
    let still = Running::start(moving(&folder, Pace::Max)).await;
    let ibm = Watcher::of(&still, "NYSE:IBM", &["lp", "volume"]).await;
    assert_eq!(Value::Object(ibm.merged), json!({"lp": 12.25, "volume": 500.0}));
    let mut config = moving(&folder, Pace::Max);
    config.replay.as_mut().unwrap().walk = Some(2);
    let walked = Running::start(config).await;
    let fields = ["lp", "volume", "current_session", "prev_close_price"];
    let mut ibm = Watcher::of(&walked, "NYSE:IBM", &fields).await;
    let start = json!({"volume": 0.0, "current_session": "market", "prev_close_price": 11.25});
    assert_eq!(Value::Object(ibm.merged.clone()), start);
    let mut told = Vec::new();
    // The first day's end, and the second's.
    for _ in 0..2 {
        told.extend(ibm.to_the_end().await);
    }
    let told: Vec<(Value, Value)> = told
        .iter()
        .filter(|update| !update["volume"].is_null())
        .map(|update| (update["lp"].clone(), update["volume"].clone()))
        .collect();
    let expected = [
        (11.25, 100.0),
        (11.0, 200.0),
        (13.0, 300.0),
        (12.0, 400.0),
        // The next day opens where this one closed.
        (f64::NAN, 125.0),
        (11.5, 250.0),
        (12.5, 375.0),
        (12.25, 500.0),
    ];
    let expected = expected.map(|(price, volume)| (json!(price), json!(volume)));
    assert_eq!(told, expected);
    let days = Client::greeted(&walked.ws_url).await.bars("NYSE:IBM", "1D").await;
    let before = Client::greeted(&still.ws_url).await.bars("NYSE:IBM", "1D").await;
    assert_eq!(days, before);
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
