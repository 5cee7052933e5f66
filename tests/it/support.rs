//! A real server on a real port, the simulator as its provider, and clients for both.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flate2::read::GzDecoder;
use pocketquant::app::{App, Pace};
use pocketquant::common::config::Settings;
use pocketquant::features::market_data::quote::StreamPace;
use pocketquant::features::market_data::webhooks::WebhookPace;
use pocketquant::infrastructure::tls::install_crypto_provider;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use pocketquant::proto::v1::system_client::SystemClient;
use pocketquant::simulator::{Endpoints, Simulator, SimulatorConfig};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::engines::Engine;

/// The real data that the demo carries, unpacked once for all tests.
pub fn demo_data() -> &'static Path {
    static DATA: OnceLock<TempDir> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        for entry in std::fs::read_dir(demo).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Some(name) = name.strip_suffix(".gz") {
                let mut text = String::new();
                GzDecoder::new(std::fs::File::open(&path).unwrap())
                    .read_to_string(&mut text)
                    .unwrap();
                std::fs::write(folder.path().join(name), text).unwrap();
            } else if name == "symbols.json" {
                std::fs::copy(&path, folder.path().join(name)).unwrap();
            }
        }
        folder
    })
    .path()
}

/// A running simulator; it stops when dropped.
#[derive(Debug)]
pub struct TestSimulator {
    pub endpoints: Endpoints,
    http: reqwest::Client,
    _stop: DropGuard,
}

impl TestSimulator {
    pub async fn start(data: &Path) -> Self {
        Self::with(SimulatorConfig::new(data)).await
    }

    pub async fn with(config: SimulatorConfig) -> Self {
        install_crypto_provider();
        let simulator = Simulator::bind(config).await.unwrap();
        let endpoints = simulator.endpoints().clone();
        let stopping = CancellationToken::new();
        drop(tokio::spawn(simulator.run(stopping.clone().cancelled_owned())));
        Self { endpoints, http: reqwest::Client::new(), _stop: stopping.drop_guard() }
    }

    /// Switches a fault on or off.
    pub async fn fault(&self, kind: &str, arg: Option<&str>, symbol: Option<&str>, on: bool) {
        let body = serde_json::json!({"kind": kind, "arg": arg, "symbol": symbol, "on": on});
        let url = format!("{}/_sim/faults", self.endpoints.http_url);
        let answer = self.http.post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{kind}: {}", answer.text().await.unwrap());
    }

    /// What the simulator counted.
    pub async fn stats(&self) -> serde_json::Value {
        let url = format!("{}/_sim/stats", self.endpoints.http_url);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }
}

/// A running service with clients for it; it stops when dropped.
pub struct TestApp {
    pub channel: Channel,
    pub market_data: MarketDataClient<Channel>,
    pub system: SystemClient<Channel>,
    pub url: String,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    stop: Option<DropGuard>,
    data_dir: Arc<TempDir>,
    changed: Vec<(String, String)>,
    pace: Pace,
}

impl TestApp {
    /// On SQLite in a folder of its own, with `simulator` as the provider.
    pub async fn start(simulator: &TestSimulator) -> Self {
        Self::on(Engine::Embedded, simulator, &[]).await
    }

    /// On `engine`, with some settings changed.
    pub async fn on(engine: Engine, simulator: &TestSimulator, changed: &[(&str, &str)]) -> Self {
        Self::paced(engine, simulator, changed, StreamPace::default()).await
    }

    /// The same, with streams that speak, and are listened to, at another pace.
    pub async fn paced(
        engine: Engine,
        simulator: &TestSimulator,
        changed: &[(&str, &str)],
        streams: StreamPace,
    ) -> Self {
        Self::at(engine, simulator, changed, Pace { streams, ..Pace::default() }).await
    }

    /// The same, with webhooks that are sent to at another pace.
    pub async fn with_webhooks(
        engine: Engine,
        simulator: &TestSimulator,
        changed: &[(&str, &str)],
        webhooks: WebhookPace,
    ) -> Self {
        Self::at(engine, simulator, changed, Pace { webhooks, ..Pace::default() }).await
    }

    async fn at(
        engine: Engine,
        simulator: &TestSimulator,
        changed: &[(&str, &str)],
        pace: Pace,
    ) -> Self {
        let mut settings: Vec<(String, String)> = Vec::new();
        for (name, value) in engine.settings().await {
            settings.push((name.to_owned(), value));
        }
        settings.extend(changed.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::in_folder(simulator, folder, settings, pace).await
    }

    /// On whatever `settings` name.
    pub async fn with_settings(simulator: &TestSimulator, settings: Vec<(String, String)>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::in_folder(simulator, folder, settings, Pace::default()).await
    }

    /// Stops it, and starts it again on the same data, with another provider.
    pub async fn restarted(self, simulator: &TestSimulator) -> Self {
        let (data_dir, changed) = (Arc::clone(&self.data_dir), self.changed.clone());
        let pace = self.pace.clone();
        self.stop().await;
        Self::in_folder(simulator, data_dir, changed, pace).await
    }

    async fn in_folder(
        simulator: &TestSimulator,
        data_dir: Arc<TempDir>,
        changed: Vec<(String, String)>,
        pace: Pace,
    ) -> Self {
        install_crypto_provider();
        let settings = lookup(simulator, data_dir.path(), &changed);
        let settings = Settings::from_lookup(settings).unwrap();
        let app = App::start_paced(settings, pace.clone()).await.unwrap();
        let url = format!("http://{}", app.address());
        let stopping = CancellationToken::new();
        let running = tokio::spawn(app.run(stopping.clone().cancelled_owned()));
        let channel = Channel::from_shared(url.clone()).unwrap().connect().await.unwrap();
        Self {
            market_data: market_data(&channel),
            system: SystemClient::new(channel.clone()),
            channel,
            url,
            running: Some(running),
            stop: Some(stopping.drop_guard()),
            data_dir,
            changed,
            pace,
        }
    }

    /// The folder that it keeps its data in.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Stops it as a signal would, and waits until it has.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.running.take().unwrap().await.unwrap().unwrap();
    }

    pub async fn sync(
        &mut self,
        symbol: &str,
        interval: pb::Interval,
        bars: i32,
    ) -> Result<pb::SyncResult, Status> {
        let request = pb::SyncSymbolRequest {
            symbol: symbol.to_owned(),
            interval: interval.into(),
            bar_count: Some(bars),
            full_history: false,
        };
        self.market_data.sync_symbol(request).await.map(tonic::Response::into_inner)
    }

    pub async fn sync_all(
        &mut self,
        symbol: &str,
        interval: pb::Interval,
    ) -> Result<pb::SyncResult, Status> {
        let request = pb::SyncSymbolRequest {
            symbol: symbol.to_owned(),
            interval: interval.into(),
            bar_count: None,
            full_history: true,
        };
        self.market_data.sync_symbol(request).await.map(tonic::Response::into_inner)
    }

    /// One page of bars; change the request with `and`.
    pub async fn bars(
        &mut self,
        symbol: &str,
        interval: pb::Interval,
        and: impl FnOnce(&mut pb::GetBarsRequest),
    ) -> Result<pb::GetBarsResponse, Status> {
        let mut request = pb::GetBarsRequest {
            symbol: symbol.to_owned(),
            interval: interval.into(),
            ..Default::default()
        };
        and(&mut request);
        self.market_data.get_bars(request).await.map(tonic::Response::into_inner)
    }

    pub async fn status(
        &mut self,
        symbol: &str,
        interval: pb::Interval,
    ) -> Result<pb::SyncStatus, Status> {
        let request =
            pb::GetSyncStatusRequest { symbol: symbol.to_owned(), interval: interval.into() };
        self.market_data.get_sync_status(request).await.map(tonic::Response::into_inner)
    }

    /// Everything that is stored, through `ExportBars`.
    pub async fn export(&mut self, symbol: &str, interval: pb::Interval) -> Vec<ExportedBar> {
        exported(&mut self.market_data, symbol, interval).await
    }
}

/// Everything that is stored of a series, through `ExportBars`; nothing where it was never synced.
pub async fn exported(
    client: &mut MarketDataClient<Channel>,
    symbol: &str,
    interval: pb::Interval,
) -> Vec<ExportedBar> {
    let request = pb::ExportBarsRequest {
        symbol: symbol.to_owned(),
        interval: interval.into(),
        ..Default::default()
    };
    let mut chunks = match client.export_bars(request).await {
        Ok(chunks) => chunks.into_inner(),
        Err(status) => {
            assert_eq!(reason(&status).1, "NOT_SYNCED");
            return Vec::new();
        }
    };
    let mut bars = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        let columns = [&chunk.open, &chunk.high, &chunk.low, &chunk.close, &chunk.volume];
        assert!(columns.iter().all(|column| column.len() == chunk.open_time_ms.len()));
        assert_eq!(chunk.state.len(), chunk.open_time_ms.len());
        bars.extend((0..chunk.open_time_ms.len()).map(|row| ExportedBar {
            time_ms: chunk.open_time_ms[row],
            values: columns.map(|column| column[row]),
        }));
    }
    bars
}

/// A bar as `ExportBars` sends it: open, high, low, close, volume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExportedBar {
    pub time_ms: i64,
    pub values: [f64; 5],
}

/// The rows of an intraday file.
pub fn file_bars(path: &Path) -> Vec<ExportedBar> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let number = |text: &str| text.parse::<f64>().unwrap();
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        ExportedBar {
            time_ms: record[0].parse::<jiff::Timestamp>().unwrap().as_millisecond(),
            values: [1, 2, 3, 4, 5].map(|column| number(&record[column])),
        }
    });
    rows.collect()
}

/// The rows of a daily file: date, then open, high, low, close, volume.
pub fn file_days(path: &Path) -> Vec<(String, [f64; 5])> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let row = |record: csv::StringRecord| {
        let values = [1, 2, 3, 4, 5].map(|column| record[column].parse().unwrap());
        (record[0].to_owned(), values)
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn market_data(channel: &Channel) -> MarketDataClient<Channel> {
    MarketDataClient::new(channel.clone()).max_decoding_message_size(8 * 1024 * 1024)
}

/// The settings of a test, by name; port 0, no limit on calls.
pub fn lookup(
    simulator: &TestSimulator,
    data_dir: &Path,
    changed: &[(String, String)],
) -> impl Fn(&str) -> Option<String> + use<> {
    let text = |path: &PathBuf| path.display().to_string();
    let endpoints = &simulator.endpoints;
    let mut settings = HashMap::from([
        ("GRPC_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
        ("DATA_DIR".to_owned(), data_dir.display().to_string()),
        ("TRADINGVIEW_WS_URL".to_owned(), endpoints.ws_url.clone()),
        ("TRADINGVIEW_HTTP_URL".to_owned(), endpoints.http_url.clone()),
        ("HISTORY_TIMEOUT".to_owned(), "10s".to_owned()),
        ("RATE_LIMIT_PER_SECOND".to_owned(), "0".to_owned()),
        // A full hour may strike while a test runs.
        ("JOBS_ENABLED".to_owned(), "false".to_owned()),
    ]);
    if let Some(ca_file) = &endpoints.ca_file {
        settings.insert("TRADINGVIEW_CA_FILE".to_owned(), text(ca_file));
    }
    settings.extend(changed.iter().cloned());
    move |name| settings.get(name).cloned()
}

/// What a client sees of an error.
pub fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no details: {status:?}"));
    assert_eq!(info.domain, "pocketquant");
    (status.code(), info.reason)
}

/// One fact of an error's metadata.
pub fn fact(status: &Status, name: &str) -> Option<String> {
    status.get_details_error_info().and_then(|info| info.metadata.get(name).cloned())
}

/// How long the caller is asked to wait.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}
