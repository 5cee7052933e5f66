//! Chart sessions: the literal conversation, pages, errors.

use serde_json::{Value, json};

use super::client::Client;
use super::{Folder, Running};

#[tokio::test]
async fn the_transcript_of_the_protocol_is_answered_in_its_order() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    for frame in [
        r#"~m~54~m~{"m":"set_auth_token","p":["unauthorized_user_token"]}"#,
        r#"~m~34~m~{"m":"set_locale","p":["en","US"]}"#,
        r#"~m~55~m~{"m":"chart_create_session","p":["cs_BBBBBBBBBBBB",""]}"#,
        r#"~m~57~m~{"m":"switch_timezone","p":["cs_BBBBBBBBBBBB","Etc/UTC"]}"#,
        concat!(
            r#"~m~113~m~{"m":"resolve_symbol","p":["cs_BBBBBBBBBBBB","sds_sym_1","={\"adjustment\":\"splits\",\"symbol\":\"NYSE:IBM\"}"]}"#,
            r#"~m~82~m~{"m":"create_series","p":["cs_BBBBBBBBBBBB","sds_1","s1","sds_sym_1","1D",300,""]}"#
        ),
    ] {
        client.raw(frame).await;
    }
    assert_eq!(client.expect("series_loading").await, json!(["cs_BBBBBBBBBBBB", "sds_1", "s1"]));
    let resolved = client.expect("symbol_resolved").await;
    assert_eq!(resolved[1], "sds_sym_1");
    assert_eq!(resolved[2]["description"], "IBM (国際商業機械) 🍏");
    let update = client.json().await;
    assert_eq!(update["m"], "timescale_update");
    assert!(update["t"].is_i64() && update["t_ms"].is_i64());
    let timeframe = client.json().await;
    assert_eq!(timeframe["m"], "series_timeframe");
    assert!(timeframe.get("t").is_none());
    let completed = client.expect("series_completed").await;
    let end = json!({"rt_update_period": 5, "data_completed": "end"});
    assert_eq!(completed, json!(["cs_BBBBBBBBBBBB", "sds_1", "streaming", "s1", end]));

    let series = &update["p"][1]["sds_1"];
    assert_eq!(series["t"], "s1");
    // The open of Monday: 09:30 in New York. All numbers have a decimal point.
    assert_eq!(
        series["s"][0].to_string(),
        r#"{"i":0,"v":[1353335400.0,10.0,11.0,9.0,10.5,100.0]}"#
    );
    // The newest bar closes at 16:00.
    assert_eq!(series["lbs"]["bar_close_time"], 1_353_963_600);
    // Marks tell the trading date: 2012-11-19, 00:00Z.
    assert_eq!(update["p"][2]["marks"][0], json!([10, 1_353_283_200, 0]));

    client.say("remove_series", json!(["cs_BBBBBBBBBBBB", "sds_1"])).await;
    assert_eq!(client.expect("series_deleted").await, json!(["cs_BBBBBBBBBBBB", "sds_1"]));
    client.say("chart_delete_session", json!(["cs_BBBBBBBBBBBB"])).await;
    simulator.stop().await;
    client.expect_end().await;
}

#[tokio::test]
async fn a_symbol_tells_its_session_in_full() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("nyse:ibm").await;
    let info = client.expect("symbol_resolved").await[2].take();
    for (key, value) in [
        ("pro_name", json!("NYSE:IBM")),
        ("session", json!("0930-1600")),
        ("session_holidays", json!("20121122")),
        ("corrections", json!("0930-1300:20121123")),
        ("timezone", json!("America/New_York")),
        ("pricescale", json!(100)),
        ("minmov", json!(1)),
        ("visible_plots_set", json!("ohlcv")),
        ("has_intraday", json!(false)),
        ("type", json!("stock")),
    ] {
        assert_eq!(info[key], value, "{key}");
    }
    assert_eq!(info["subsessions"][0]["session-correction"], "0930-1300:20121123");
    client.say("resolve_symbol", json!(["cs_1", "sym_2", "BTCUSDT"])).await;
    let info = client.expect("symbol_resolved").await[2].take();
    assert_eq!((&info["session"], &info["timezone"]), (&json!("24x7"), &json!("Etc/UTC")));
    assert_eq!((&info["type"], &info["pricescale"]), (&json!("crypto"), &json!(100)));
}

#[tokio::test]
async fn pages_go_back_and_repeat_what_is_known() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.say("create_series", json!(["cs_1", "$prices", "s1", "sym_1", "D", 2])).await;
    let (bars, info) = client.page().await;
    assert_eq!(closes(&bars), [12.0, 12.25]);
    assert_eq!(info, json!({"rt_update_period": 5}));
    client.say("request_more_data", json!(["cs_1", "$prices", 2])).await;
    let (bars, info) = client.page().await;
    assert_eq!(closes(&bars), [11.0, 11.25, 12.0, 12.25]);
    assert_eq!(info, json!({"rt_update_period": 5}));
    client.say("request_more_data", json!(["cs_1", "$prices", 50])).await;
    let (bars, info) = client.page().await;
    assert_eq!(closes(&bars), [10.5, 11.0, 11.25]);
    assert_eq!(info["data_completed"], "end");
    client.say("request_more_data", json!(["cs_1", "$prices", 50])).await;
    let (bars, info) = client.page().await;
    assert_eq!((bars.len(), &info["data_completed"]), (0, &json!("end")));
}

#[tokio::test]
async fn the_history_limit_ends_it_by_saying_so() {
    let folder = Folder::small();
    let mut config = folder.config();
    config.history_limit = Some(3);
    let simulator = Running::start(config).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1D", 300, ""])).await;
    let (bars, info) = client.page().await;
    assert_eq!((bars.len(), &info["data_completed"]), (3, &json!("limit")));
}

#[tokio::test]
async fn bars_may_be_counted_from_a_time_and_ranges_are_hints() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    // Noon of Wednesday the 21st.
    let bars = json!(["bar_count", 1_353_517_200, 2]);
    client.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1D", bars])).await;
    assert_eq!(closes(&client.page().await.0), [11.0, 11.25]);
    client.say("remove_series", json!(["cs_1", "s1"])).await;
    client.expect("series_deleted").await;
    client.say("create_series", json!(["cs_1", "s2", "t2", "sym_1", "1D", 1, ""])).await;
    assert_eq!(closes(&client.page().await.0), [12.25]);
    // The 21st to the 23rd: a bar more on the left; what is known does not come again.
    let frame = "r,1353456000:1353715199";
    client.say("modify_series", json!(["cs_1", "s2", "t3", "sym_1", "1D", frame])).await;
    assert_eq!(closes(&client.page().await.0), [11.0, 11.25, 12.0]);
}

#[tokio::test]
async fn another_resolution_on_the_same_series_is_rolled_up_on_the_session() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1W", 10, ""])).await;
    let (weeks, _) = client.page().await;
    let first = json!([1_353_335_400.0, 10.0, 13.0, 9.0, 12.0, 1_000.0]);
    let second = json!([1_353_940_200.0, 12.0, 12.5, 11.5, 12.25, 500.0]);
    assert_eq!(weeks, [first, second]);
    client.say("modify_series", json!(["cs_1", "s1", "t2", "sym_1", "M", ""])).await;
    let (months, _) = client.page().await;
    // The first session of November 2012 was Thursday the 1st, 09:30 summer time.
    assert_eq!(months, [json!([1_351_776_600.0, 10.0, 13.0, 9.0, 12.25, 1_500.0])]);
}

#[tokio::test]
async fn bars_off_the_grid_keep_their_times() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    let bars = client.bars("BINANCE:BTCUSDT", "1H").await;
    let times: Vec<f64> = bars.iter().map(|bar| bar[0].as_f64().unwrap()).collect();
    assert_eq!(times, [1_518_168_494.0, 1_518_172_094.0, 1_518_177_600.0]);
}

#[tokio::test]
async fn an_instrument_without_volume_has_bars_of_five() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("TVC:VIX").await;
    assert_eq!(client.expect("symbol_resolved").await[2]["visible_plots_set"], "ohlc");
    client.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1D", 5, ""])).await;
    assert_eq!(client.page().await.0, [json!([1_353_335_400.0, 15.0, 16.0, 14.0, 15.5])]);
}

#[tokio::test]
async fn an_unknown_symbol_fails_and_so_does_a_series_of_it() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NASDAQ:NOPE").await;
    client.say("create_series", json!(["cs_1", "sds_1", "s1", "sym_1", "1D", 300, ""])).await;
    client.expect("series_loading").await;
    assert_eq!(client.expect("symbol_error").await, json!(["cs_1", "sym_1", "invalid symbol"]));
    let error = client.expect("series_error").await;
    assert_eq!(error[3], "resolve error");
    // The connection and the session go on.
    client.say("resolve_symbol", json!(["cs_1", "sym_2", "NYSE:IBM"])).await;
    client.expect("symbol_resolved").await;
}

#[tokio::test]
async fn every_mistake_has_its_error() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.expect("symbol_resolved").await;
    let series = |resolution: &str| json!(["cs_1", "s1", "t1", "sym_1", resolution, 100]);
    for (method, parameters, reason) in [
        ("switch_timezone", json!(["cs_1", "Nowhere/Nowhere"]), "invalid timezone"),
        ("resolve_symbol", json!(["cs_1", "sym_1", "NYSE:IBM"]), "duplicate id"),
        ("chart_create_session", json!(["cs_1", ""]), "duplicate id"),
        ("create_series", series("XX"), "invalid parameters"),
        ("create_series", json!(["cs_1", "s1", "t1", "nobody", "1D", 1]), "invalid parameters"),
        ("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1D", 0]), "invalid parameters"),
        ("create_series", json!(["cs_9", "s1", "t1", "sym_1", "1D", 1]), "invalid parameters"),
        ("request_more_data", json!(["cs_1", "s1", 1]), "invalid parameters"),
    ] {
        client.say(method, parameters).await;
        let error = client.expect("critical_error").await;
        assert_eq!(error[1], reason, "{method}");
        assert!(error[2].as_str().unwrap().starts_with(&format!("method: {method}. args: \"[")));
    }
    for (resolution, reason) in [
        ("7", "custom_resolution"),
        ("30S", "seconds_not_entitled"),
        ("5", "unsupported resolution: NYSE:IBM, 5"),
    ] {
        client.say("create_series", series(resolution)).await;
        client.expect("series_loading").await;
        assert_eq!(client.expect("series_error").await[3], reason);
    }
    client.say("create_series", series("1D")).await;
    client.page().await;
    client.say("create_series", json!(["cs_1", "s2", "t2", "sym_1", "1D", 1])).await;
    let error = client.expect("critical_error").await;
    assert_eq!(error[1], "exceed limit of series in the session");
    client.say("create_study", json!(["cs_1", "st1", "s1_st1", "s1", "Script@x", {}])).await;
    assert_eq!(client.expect("study_error").await[3], "check study unexpected error");
    client.say("get_first_bar_time", json!(["cs_1", "sym_1", "1D"])).await;
    assert_eq!(client.expect("first_bar_time").await, json!(["cs_1", "sym_1", 1_353_335_400]));
    client.say("request_more_tickmarks", json!(["cs_1", "s1", 10])).await;
    client.expect("tickmark_update").await;
}

#[tokio::test]
async fn sessions_of_a_connection_are_counted_over_its_life() {
    let folder = Folder::small();
    let mut config = folder.config();
    config.sessions_per_connection = 3;
    let simulator = Running::start(config).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    for _ in 0..3 {
        client.say("chart_create_session", json!(["cs_1", ""])).await;
        client.say("chart_delete_session", json!(["cs_1"])).await;
    }
    client.say("chart_create_session", json!(["cs_1", ""])).await;
    let error = client.expect("critical_error").await;
    assert_eq!((&error[0], &error[1]), (&json!("cs_1"), &json!("max sessions rate reached")));
    assert_eq!(simulator.control.stats().chart_sessions, 3);
}

fn closes(bars: &[Value]) -> Vec<f64> {
    bars.iter().map(|bar| bar[4].as_f64().unwrap()).collect()
}
