//! What the folder's files come to.

use pocketquant::simulator::{Simulator, SimulatorConfig};
use serde_json::{Value, json};

use super::client::Client;
use super::{Folder, Running};

const MINUTES: &str = "time,open,high,low,close,volume\n\
    2013-09-01T22:00:00Z,10,12,9,11,5\n\
    2013-09-01T22:01:00Z,11,13,11,12,6\n\
    2013-09-01T22:59:00Z,12,12,8,9,7\n\
    2013-09-02T15:29:00Z,9,9.5,9,9.25,1\n\
    2013-09-02T22:00:00Z,9.25,10,9,9.5,2\n";

async fn bars(simulator: &Running, symbol: &str, resolution: &str) -> Vec<Value> {
    Client::greeted(&simulator.ws_url).await.bars(symbol, resolution).await
}

#[tokio::test]
async fn every_length_is_rolled_up_on_the_session() {
    let folder = Folder::small();
    folder.put("CME_ES_1m.csv", MINUTES);
    let simulator = Running::start(folder.config()).await;
    let hours = bars(&simulator, "CME:ES", "60").await;
    assert_eq!(hours[0], json!([1_378_072_800.0, 10.0, 13.0, 8.0, 9.0, 18.0]));
    let days = bars(&simulator, "CME:ES", "1D").await;
    // Sunday evening is Monday's; the day that opens on Monday evening is Tuesday's.
    let monday = json!([1_378_072_800.0, 10.0, 13.0, 8.0, 9.25, 19.0]);
    assert_eq!(days, [monday, json!([1_378_159_200.0, 9.25, 10.0, 9.0, 9.5, 2.0])]);
    for resolution in ["1", "3", "5", "15", "30", "45", "60", "120", "180", "240", "1D", "1W", "1M"]
    {
        let bars = bars(&simulator, "CME:ES", resolution).await;
        let volume: f64 = bars.iter().map(|bar| bar[5].as_f64().unwrap()).sum();
        assert!((volume - 21.0).abs() < 1e-9, "{resolution}");
    }
}

#[tokio::test]
async fn a_packed_file_is_read_as_the_plain_one_is() {
    let (plain, packed) = (Folder::empty(), Folder::empty());
    plain.put("CME_ES_1m.csv", MINUTES);
    packed.put_packed("CME_ES_1m.csv.gz", MINUTES);
    let mut seen = Vec::new();
    for folder in [&plain, &packed] {
        let simulator = Running::start(folder.config()).await;
        seen.push(bars(&simulator, "CME:ES", "1").await);
    }
    assert_eq!((seen[0].len(), &seen[0]), (5, &seen[1]));

    plain.put_packed("CME_ES_1m.csv.gz", MINUTES);
    let error = Simulator::bind(plain.config()).await.unwrap_err().to_string();
    assert!(error.contains("CME_ES_1m.csv` holds the same series"), "{error}");
}

#[tokio::test]
async fn a_folder_of_trades_alone_has_symbols_and_history() {
    let folder = Folder::empty();
    folder.put_trades(
        "CME_ES_trades.csv.gz",
        "time,price,size\n\
         2013-09-01T22:00:00.083Z,1640.25,8\n\
         2013-09-01T22:00:00.083Z,1640.25,8\n\
         2013-09-01T22:00:59.999Z,1639.5,1\n\
         2013-09-01T22:01:00.000Z,1641,2\n",
    );
    let simulator = Running::start(folder.config()).await;
    let minutes = bars(&simulator, "CME:ES", "1").await;
    let first = json!([1_378_072_800.0, 1640.25, 1640.25, 1639.5, 1639.5, 17.0]);
    assert_eq!(minutes, [first, json!([1_378_072_860.0, 1641.0, 1641.0, 1641.0, 1641.0, 2.0])]);
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.say("quote_create_session", json!(["qs_1", ""])).await;
    client.say("quote_set_fields", json!(["qs_1", "lp_time"])).await;
    client.say("quote_add_symbols", json!(["qs_1", "CME:ES"])).await;
    assert_eq!(client.expect("qsd").await[1]["v"], json!({"lp_time": 1_378_072_860}));
}

#[tokio::test]
async fn at_a_given_time_later_bars_do_not_exist_and_the_last_is_unfinished() {
    let folder = Folder::small();
    folder.put("CME_ES_1m.csv", MINUTES);
    folder.put(
        "CME_ES_1h.csv",
        "time,open,high,low,close,volume\n2013-09-01T22:00:00Z,10,13,8,9,18\n",
    );
    let mut config = folder.config();
    config.now = Some("2013-09-01T22:30:00Z".parse().unwrap());
    let simulator = Running::start(config).await;
    assert_eq!(bars(&simulator, "CME:ES", "1").await.len(), 2);
    // Of the hour only its first two minutes have happened, whatever its own file says.
    let so_far = json!([1_378_072_800.0, 10.0, 13.0, 9.0, 12.0, 11.0]);
    assert_eq!(bars(&simulator, "CME:ES", "60").await, std::slice::from_ref(&so_far));
    assert_eq!(bars(&simulator, "CME:ES", "1D").await, [so_far]);
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("CME:ES").await;
    let resolved = client.json().await;
    let told = resolved["t_ms"].as_i64().unwrap();
    assert!((1_378_074_600_000..1_378_074_660_000).contains(&told), "{told}");
}

#[tokio::test]
async fn a_minute_that_is_not_over_is_made_of_its_trades() {
    let folder = Folder::small();
    folder.put("CME_ES_1m.csv", MINUTES);
    folder.put_trades(
        "CME_ES_trades.csv.gz",
        "time,price,size\n\
         2013-09-01T22:00:30Z,10,5\n\
         2013-09-01T22:01:10Z,11,2\n\
         2013-09-01T22:01:20Z,13,1\n\
         2013-09-01T22:01:40Z,11,3\n",
    );
    let mut config = folder.config();
    config.now = Some("2013-09-01T22:01:30Z".parse().unwrap());
    let simulator = Running::start(config).await;
    let minutes = bars(&simulator, "CME:ES", "1").await;
    assert_eq!(minutes[0], json!([1_378_072_800.0, 10.0, 12.0, 9.0, 11.0, 5.0]));
    assert_eq!(minutes[1], json!([1_378_072_860.0, 11.0, 13.0, 11.0, 13.0, 3.0]));
    assert_eq!(minutes.len(), 2);
    let hours = bars(&simulator, "CME:ES", "60").await;
    assert_eq!(hours, [json!([1_378_072_800.0, 10.0, 13.0, 9.0, 13.0, 8.0])]);
}

#[tokio::test]
async fn a_bar_on_a_holiday_is_stamped_where_its_session_would_have_opened() {
    let folder = Folder::small();
    folder.put(
        "NYSE_IBM_1d.csv",
        "time,open,high,low,close\n2012-11-22,1,1,1,1\n2012-11-24,1,1,1,1\n",
    );
    let simulator = Running::start(folder.config()).await;
    let days = bars(&simulator, "NYSE:IBM", "1D").await;
    // Thanksgiving at 09:30 in New York; on a Saturday there is no session to go by.
    assert_eq!((&days[0][0], &days[1][0]), (&json!(1_353_594_600.0), &json!(1_353_715_200.0)));
}

#[tokio::test]
async fn what_is_wrong_in_the_folder_is_said() {
    let header = "time,open,high,low,close,volume\n";
    let cases: [(&str, String, &str); 8] = [
        ("readme.txt", String::new(), "holds no bars"),
        ("AAPL_1d.csv", header.to_owned(), "no exchange in its name"),
        ("NYSE_IBM_7d.csv", header.to_owned(), "unknown interval `7d`"),
        ("NYSE_IBM_1d.csv", "time,open,high,low\n".to_owned(), "line 1: no column `close`"),
        ("NYSE_IBM_1d.csv", format!("{header}2012-01-03,1,1,1,x,1\n"), "line 2: `x` is no number"),
        ("NYSE_IBM_1h.csv", format!("{header}2012-01-03,1,1,1,1,1\n"), "a bar of 1h needs a time"),
        (
            "NYSE_IBM_1d.csv",
            format!("{header}2012-01-04,1,1,1,1,1\n2012-01-03,1,1,1,1,1\n"),
            "line 3: 2012-01-03T00:00:00Z is not after the bar before it",
        ),
        (
            "symbols.json",
            r#"{"symbols": [{"symbol": "A:B", "calendar": "x"}]}"#.to_owned(),
            "unknown calendar `x`",
        ),
    ];
    for (name, text, expected) in cases {
        let folder = Folder::empty();
        folder.put(name, &text);
        let error = Simulator::bind(folder.config()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let missing = Simulator::bind(SimulatorConfig::new("/no/such/folder")).await.unwrap_err();
    assert_eq!(missing.to_string(), "cannot read `/no/such/folder`");
}

#[tokio::test]
async fn it_listens_on_loopback_unless_told_otherwise() {
    let folder = Folder::small();
    let mut config = folder.config();
    config.listen = "0.0.0.0:0".parse().unwrap();
    let error = Simulator::bind(config).await.unwrap_err().to_string();
    assert!(error.starts_with("`0.0.0.0:0` is not loopback"), "{error}");
}
