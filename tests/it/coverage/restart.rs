//! The time in which the service was down is an outage, however it went.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pocketquant::domain::shared::Symbol;
use pocketquant::infrastructure::persistence::{Database, DatabaseConfig};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::CoverageReason::{Data, FeedDown};
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use super::feed::market;
use super::{Row, coverage, is_down};
use crate::database::mongodb_config;
use crate::engines::{Engine, on_every_engine};
use crate::processes::{Server, SimulatorProcess};

on_every_engine!(
    a_stop_is_an_outage_until_the_feed_is_back,
    a_crash_is_an_outage_since_the_feed_was_heard_last,
);

const COIN: &str = "T:COIN";
const DAY: (&str, &str) = ("2024-03-05T14:00", "2024-03-05T16:10");
const PATIENCE: Duration = Duration::from_mins(2);

async fn a_stop_is_an_outage_until_the_feed_is_back(engine: Engine) {
    ended(engine, false).await;
}

async fn a_crash_is_an_outage_since_the_feed_was_heard_last(engine: Engine) {
    ended(engine, true).await;
}

async fn until(server: &Server, what: &str, is_it: impl Fn(&[Row]) -> bool) -> Vec<Row> {
    let mut client = server.market_data().await;
    let looking = async {
        loop {
            let rows = coverage(&mut client, COIN, Interval::Interval1m, DAY).await;
            if let Some(rows) = rows.ok().filter(|rows| is_it(rows)) {
                return rows;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never {what}"))
}

async fn quotes(server: &Server) -> QuoteStreamClient<Channel> {
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    QuoteStreamClient::new(channel)
}

/// Until when the feed was heard, as it is written down.
async fn heard_until(folder: &Path, settings: &BTreeMap<String, String>) -> Timestamp {
    let config = match (settings.get("MONGODB_URL"), settings.get("MONGODB_DATABASE")) {
        (Some(url), Some(name)) => mongodb_config(url, name),
        _ => DatabaseConfig::Sqlite { data_dir: folder.join("data") },
    };
    let database = Database::connect(config, TaskTracker::new()).await.unwrap();
    let presence = database.coverage().feed(&Symbol::parse(COIN).unwrap()).await.unwrap();
    database.close().await;
    presence.unwrap().heard_until().unwrap()
}

async fn ended(engine: Engine, killed: bool) {
    let (market, folder) = (market(), tempfile::tempdir().unwrap());
    let simulator = SimulatorProcess::start(market.path(), &["--rate", "20"]).await;
    let mut settings: BTreeMap<String, String> = simulator.settings();
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    for (name, value) in engine.settings().await {
        settings.insert(name.to_owned(), value);
    }
    let server = Server::start(folder.path(), &settings).await;
    let request = pb::SubscribeRequest { symbol: COIN.to_owned() };
    quotes(&server).await.subscribe(request).await.unwrap();
    let bars = |rows: &[Row]| rows.iter().map(|row| row.3).sum::<i32>();
    let heard = until(&server, "heard", |rows| bars(rows) >= 8).await;
    assert!(!is_down(&heard), "{heard:?}");
    if killed {
        server.kill().await;
    } else {
        assert_eq!(server.terminate().await, Some(0));
        // What the feed said last is written down, besides the bars.
        let last = heard.iter().rev().find(|row| row.2 == Data).unwrap();
        let last: Timestamp = format!("{}:00Z", last.1).parse().unwrap();
        let until = heard_until(folder.path(), &settings).await;
        assert!(until > last - SignedDuration::from_mins(2), "{until}: {heard:?}");
    }

    // Nothing connects by itself.
    settings.insert("FEED_AUTOSTART".to_owned(), "false".to_owned());
    let server = Server::start(folder.path(), &settings).await;
    // On servers, the process that was killed may be another, and is believed for a while.
    let rows = until(&server, "down", is_down).await;
    let down = rows.iter().find(|row| row.2 == FeedDown).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!(down.1, "2024-03-05T16:10", "it is away still: {rows:?}");
    quotes(&server).await.start_feed(pb::StartFeedRequest {}).await.unwrap();
    let holds = |row: &&Row| row.0 <= down.0 && down.0 < row.1;
    let is_back = |rows: &[Row]| rows.iter().find(holds).is_some_and(|row| row.2 == Data);
    until(&server, "repaired", is_back).await;
    server.kill().await;
}
