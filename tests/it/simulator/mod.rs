//! The simulator, heard by a client that shares none of its code.

mod client;
mod connections;
mod faults;
mod history;
mod pages;
mod quotes;
mod replay;
mod replay_faults;
mod replay_world;

mod watcher;
mod world;

use std::path::{Path, PathBuf};

use pocketquant::simulator::{Simulator, SimulatorConfig, SimulatorControl};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running simulator; it ends with this.
pub struct Running {
    pub ws_url: String,
    pub http_url: String,
    pub ca_file: Option<PathBuf>,
    pub control: SimulatorControl,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Running {
    pub async fn start(config: SimulatorConfig) -> Self {
        let simulator = Simulator::bind(config).await.unwrap();
        let endpoints = simulator.endpoints().clone();
        let control = simulator.control();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(simulator.run(async {
            drop(stopped.await);
        }));
        Self {
            ws_url: endpoints.ws_url,
            http_url: endpoints.http_url,
            ca_file: endpoints.ca_file,
            control,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// Stops it and waits for its end.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap();
    }
}

/// A folder with the calendars of New York and Chicago, and symbols of both.
pub struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Five daily bars of a stock over Thanksgiving and its early close, three hours of a coin.
    pub fn small() -> Self {
        let folder = Self::empty();
        folder.put("symbols.json", SYMBOLS);
        folder.put(
            "NYSE_IBM_1d.csv",
            "time,open,high,low,close,volume\n\
             2012-11-19,10,11,9,10.5,100\n\
             2012-11-20,10.5,12,10,11,200\n\
             2012-11-21,11,11.5,10.25,11.25,300\n\
             2012-11-23,11.25,13,11,12,400\n\
             2012-11-26,12,12.5,11.5,12.25,500\n",
        );
        folder.put(
            "BINANCE_BTCUSDT_1h.csv",
            "time,open,high,low,close,volume\n\
             2018-02-09T09:28:14Z,1,4,0.5,2,1.25\n\
             2018-02-09T10:28:14Z,2,3,1,2.5,0.75\n\
             2018-02-09T12:00:00Z,2.5,2.75,2.25,2.5,0.125\n",
        );
        folder.put("TVC_VIX_1d.csv", "time,open,high,low,close\n2012-11-19,15,16,14,15.5\n");
        folder
    }

    pub fn put(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn put_trades(&self, name: &str, text: &str) {
        self.put_packed(&format!("ticks/{name}"), text);
    }

    pub fn put_packed(&self, name: &str, text: &str) {
        use std::io::Write as _;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, packed.finish().unwrap()).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn config(&self) -> SimulatorConfig {
        SimulatorConfig::new(self.path())
    }
}

const SYMBOLS: &str = r#"{
 "_": "unknown keys are ignored",
 "calendars": {
  "nyse": {"timezone": "America/New_York", "session": "0930-1600",
   "holidays": ["2012-11-22"], "early_closes": {"0930-1300": ["2012-11-23"]}},
  "cme": {"timezone": "America/Chicago", "session": "1700-1600",
   "early_closes": {"1700-1030": ["2013-09-02"]}}
 },
 "symbols": [
  {"symbol": "NYSE:IBM", "file": "NYSE_IBM", "description": "IBM (国際商業機械) 🍏", "type": "stock",
   "currency": "USD", "calendar": "nyse", "price_scale": 100, "minmov": 1, "has_volume": true},
  {"symbol": "TVC:VIX", "description": "Volatility", "type": "index", "calendar": "nyse", "has_volume": false},
  {"symbol": "CME:ES", "description": "E-mini", "type": "futures", "calendar": "cme", "price_scale": 100, "minmov": 25},
  {"symbol": "NYSE:NOFILE", "calendar": "nyse"}
 ]
}"#;
