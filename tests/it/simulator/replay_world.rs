//! Which world is replayed: its history, its passes, its place in time.

use pocketquant::simulator::{Pace, Rebase};
use serde_json::{Value, json};

use super::client::Client;
use super::watcher::{START, STILL, TRADES, Watcher, folder, many, moving};
use super::{Folder, Running};

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
    Watcher::of(&moving, "CME:ES", &["volume", "current_session"]).await.until_the_end().await;
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
    es.until_the_end().await;
    assert_eq!((es.get("volume"), es.get("ch")), (json!(40.0), json!(90.0)));
    let bars = async |resolution: &str| {
        Client::greeted(&simulator.ws_url).await.bars("CME:ES", resolution).await
    };
    let times: Vec<f64> =
        bars("1").await.iter().map(|bar| bar[0].as_f64().unwrap() - 1_378_216_800.0).collect();
    assert_eq!(times, [-120.0, 0.0, 60.0]);
    let days = bars("1D").await;
    assert_eq!(days[1], json!([days[1][0], 1500.0, 1700.0, 1500.0, 1640.0, 40.0]));
    assert_eq!(days.len(), 2);
}

#[tokio::test]
async fn a_loop_goes_on_whole_weeks_later() {
    let folder = folder(TRADES);
    let mut config = moving(&folder, Pace::Max);
    config.replay.as_mut().unwrap().looping = true;
    let simulator = Running::start(config).await;
    let fields = ["lp", "lp_time", "volume", "current_session"];
    let mut es = Watcher::of(&simulator, "CME:ES", &fields).await;
    es.until_the_end().await;
    for pass in 1..=60 {
        assert_eq!(es.update().await, json!({"current_session": "market"}));
        let updates = es.until_the_end().await;
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
    assert_eq!(
        Box::pin(rebased("2024-01-09T12:34:56Z")).await,
        (1_704_803_696, json!("1700-1600"))
    );
    assert_eq!(Box::pin(rebased("2024-01-13T12:34:56Z")).await, (1_705_149_296, json!("24x7")));
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
        told.extend(ibm.until_the_end().await);
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
