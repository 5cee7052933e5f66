//! Made-up markets: trades of a test's own, the folder that holds them, and the bars they come to.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use pocketquant::domain::ohlcv::Ohlcv;
use pocketquant::domain::ohlcv::services::roll_up;
use pocketquant::domain::shared;
use pocketquant::domain::symbol::{SessionSpec, TradingSession};
use pocketquant::simulator::{ReplayConfig, SimulatorConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ExportedBar, TestSimulator};

/// A trade of a test's own.
#[derive(Clone, Copy, Debug)]
pub struct Trade {
    pub time: Timestamp,
    pub price: f64,
    pub size: f64,
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// `count` trades from `start` on, one every `seconds`, of changing price and size.
pub fn trades_from(start: Timestamp, count: i32, seconds: i64) -> Vec<Trade> {
    let trade = |number: i32| Trade {
        time: Timestamp::from_second(start.as_second() + i64::from(number) * seconds).unwrap(),
        price: 100.0 + f64::from((number * 37) % 50) / 4.0,
        size: f64::from(1 + number % 5),
    };
    (0..count).map(trade).collect()
}

/// A folder of trades and calendars for the simulator.
pub struct Market {
    folder: TempDir,
    calendars: Vec<(String, Value)>,
    symbols: Vec<Value>,
}

impl Market {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ticks")).unwrap();
        Self { folder, calendars: Vec::new(), symbols: Vec::new() }
    }

    /// A symbol that never closes.
    pub fn trades(&self, symbol: &str, trades: &[Trade]) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        writeln!(packed, "time,price,size").unwrap();
        for Trade { time, price, size } in trades {
            writeln!(packed, "{time},{price},{size}").unwrap();
        }
        let name = format!("{}_trades.csv.gz", symbol.replace(':', "_"));
        std::fs::write(self.folder.path().join("ticks").join(name), packed.finish().unwrap())
            .unwrap();
    }

    /// A symbol with a calendar of its own.
    pub fn scheduled(&mut self, symbol: &str, calendar: Value, trades: &[Trade]) {
        self.trades(symbol, trades);
        self.symbols.push(json!({"symbol": symbol, "calendar": symbol, "price_scale": 100}));
        self.calendars.push((symbol.to_owned(), calendar));
        let calendars: serde_json::Map<String, Value> = self.calendars.iter().cloned().collect();
        let catalogue = json!({"calendars": calendars, "symbols": self.symbols});
        std::fs::write(self.path().join("symbols.json"), catalogue.to_string()).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A simulator that replays all of it.
    pub async fn replay(&self, replay: ReplayConfig) -> TestSimulator {
        let config = SimulatorConfig { replay: Some(replay), ..SimulatorConfig::new(self.path()) };
        TestSimulator::with(config).await
    }
}

/// Posts to a page of the simulator.
pub async fn post(simulator: &TestSimulator, page: &str, body: Value) {
    let url = format!("{}/_sim/{page}", simulator.endpoints.http_url);
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{page} {body}: {}", answer.text().await.unwrap());
}

/// The bars that `trades` come to on `session`.
pub fn bars_of_trades(
    trades: &[Trade],
    session: &Arc<TradingSession>,
    interval: shared::Interval,
) -> Vec<ExportedBar> {
    let single = |trade: &Trade| {
        let price = trade.price;
        (trade.time, Ohlcv::new(price, price, price, price, Some(trade.size)).unwrap())
    };
    let bars = roll_up(trades.iter().map(single), session, interval).into_iter();
    bars.map(|bar| ExportedBar {
        time_ms: bar.range.open().as_millisecond(),
        values: [
            bar.values.open(),
            bar.values.high(),
            bar.values.low(),
            bar.values.close(),
            bar.values.volume().unwrap(),
        ],
    })
    .collect()
}

/// A session as the provider would write it.
pub fn session(timezone: &str, session: &str, corrections: &str) -> Arc<TradingSession> {
    let spec = SessionSpec {
        timezone: timezone.to_owned(),
        session: session.to_owned(),
        holidays: String::new(),
        corrections: corrections.to_owned(),
    };
    Arc::new(TradingSession::parse(&spec).unwrap())
}
