//! Copies history, pages through it, and follows live bars over any number of cuts.
//!
//!     cargo run --example client -- http://127.0.0.1:50051 NYSE:IBM CME:ES
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it shows what it gets")]

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::stream_bars_request::From as Place;
use pocketquant::proto::v1::{
    Bar, BarOrder, GetBarsRequest, Interval, StreamBarsRequest, SyncSymbolRequest,
};
use rand::RngExt as _;
use tokio::time::sleep;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// What waiting may mend.
const PASSING: [Code; 4] =
    [Code::Unavailable, Code::ResourceExhausted, Code::Aborted, Code::DeadlineExceeded];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let server = argument("http://127.0.0.1:50051");
    let (history, live) = (argument("NYSE:IBM"), argument("CME:ES"));
    // A server that is gone is noticed; the channel connects again by itself.
    let channel = Endpoint::from_shared(server)?
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect_lazy();

    let mut market_data = MarketDataClient::new(channel.clone());
    sync(&mut market_data, &history).await?;
    let bars = read(&mut market_data, &history).await?;
    let newest = bars.last().map_or(f64::NAN, |bar| bar.close);
    println!("read {} bars, the newest closed at {newest}", bars.len());
    if let Err(status) = sync(&mut market_data, "NYSE:NOPE").await {
        println!("refused: {:?} {}", status.code(), reason(&status));
    }
    follow(&mut QuoteStreamClient::new(channel), &live).await?;
    Ok(())
}

/// Copies all of a symbol's daily bars. One key for one intent: however often the call is sent,
/// the sync is carried out once.
async fn sync(client: &mut MarketDataClient<Channel>, symbol: &str) -> Result<(), Status> {
    let key = Uuid::now_v7().to_string();
    let mut attempt = 0;
    loop {
        let mut call = request(SyncSymbolRequest {
            symbol: symbol.to_owned(),
            interval: Interval::Interval1d.into(),
            full_history: true,
            ..Default::default()
        })?;
        call.metadata_mut().insert("idempotency-key", header(&key)?);
        call.set_timeout(Duration::from_mins(1));
        match client.sync_symbol(call).await {
            Ok(synced) => {
                let synced = synced.into_inner();
                let (fetched, total) = (synced.bars_fetched, synced.total_bars);
                println!("synced {symbol}: {fetched} fetched, {total} stored");
                return Ok(());
            }
            Err(status) if attempt < 5 && may_pass(&status) => {
                pause(&status, attempt).await;
                attempt += 1;
            }
            Err(status) => return Err(status),
        }
    }
}

/// All stored daily bars, oldest first.
async fn read(client: &mut MarketDataClient<Channel>, symbol: &str) -> Result<Vec<Bar>, Status> {
    let (mut bars, mut page_token) = (Vec::new(), String::new());
    loop {
        let mut call = request(GetBarsRequest {
            symbol: symbol.to_owned(),
            interval: Interval::Interval1d.into(),
            limit: Some(1_000),
            order: BarOrder::OldestFirst.into(),
            page_token,
            ..Default::default()
        })?;
        call.set_timeout(Duration::from_secs(10));
        let page = client.get_bars(call).await?.into_inner();
        bars.extend(page.bars);
        if page.next_page_token.is_empty() {
            return Ok(bars);
        }
        page_token = page.next_page_token;
    }
}

/// Follows bars of one minute as they close and are corrected, none missed, for ever.
async fn follow(client: &mut QuoteStreamClient<Channel>, symbol: &str) -> Result<(), Status> {
    let mut wanted = StreamBarsRequest {
        symbols: vec![symbol.to_owned()],
        intervals: vec![Interval::Interval1m.into()],
        ..Default::default()
    };
    let (mut newest, mut attempt) = (HashMap::new(), 0);
    loop {
        let place = wanted.from.clone();
        let Err(status) = until_cut(client, &mut wanted, &mut newest).await else { continue };
        let earliest = status.get_details_error_info().and_then(|mut info| {
            info.metadata.remove("earliest_cursor") // away for longer than the log is kept
        });
        if let Some(earliest) = earliest {
            wanted.from = Some(Place::ResumeCursor(earliest)); // `GetBars` has the rest
        } else if !may_pass(&status) {
            return Err(status);
        }
        eprintln!("cut off: {:?} {}", status.code(), reason(&status));
        attempt = if wanted.from == place { attempt + 1 } else { 0 };
        pause(&status, attempt).await;
    }
}

/// One stream. `wanted` is moved on behind each event, once it is dealt with.
async fn until_cut(
    client: &mut QuoteStreamClient<Channel>,
    wanted: &mut StreamBarsRequest,
    newest: &mut HashMap<i64, i32>,
) -> Result<(), Status> {
    let mut events = client.stream_bars(request(wanted.clone())?).await?.into_inner();
    while let Some(event) = events.message().await? {
        if let Some(Event::Bar(told)) = event.event
            && let Some(bar) = told.bar
        {
            show(&bar, newest);
        }
        wanted.from = Some(Place::ResumeCursor(event.cursor));
    }
    Ok(())
}

/// A higher revision replaces a lower one; an equal one is the same bar again.
fn show(bar: &Bar, newest: &mut HashMap<i64, i32>) {
    let opened = bar.open_time.map_or(0, |time| time.seconds);
    let known = newest.entry(opened).or_default();
    if bar.revision > *known {
        *known = bar.revision;
        let Bar { open, high, low, close, revision, .. } = bar;
        let (volume, time) = (bar.volume.unwrap_or(f64::NAN), Timestamp::constant(opened, 0));
        println!("bar {time} {open} {high} {low} {close} {volume} #{revision}");
    }
}

/// A call: its id is on every log line of it, and comes back with the answer.
fn request<T>(message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let id = format!("example-{}", Uuid::now_v7());
    request.metadata_mut().insert("x-correlation-id", header(&id)?);
    if let Ok(key) = env::var("POCKETQUANT_API_KEY") {
        request.metadata_mut().insert("authorization", header(&format!("Bearer {key}"))?);
    }
    Ok(request)
}

fn header(text: &str) -> Result<AsciiMetadataValue, Status> {
    text.parse().map_err(|_| Status::invalid_argument("a header is printable ASCII"))
}

/// Whether to try again. What gives no reason is no word of the server: the connection broke.
fn may_pass(status: &Status) -> bool {
    reason(status).is_empty() || PASSING.contains(&status.code())
}

/// The reason that a program decides by; empty where the error is not the server's.
fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// As long as the server asks for; where it says nothing, longer each time, and never alike.
async fn pause(status: &Status, attempt: u32) {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let backoff = Duration::from_millis(200 << attempt.min(7));
    sleep(asked.unwrap_or_else(|| backoff.mul_f64(rand::rng().random_range(0.5..1.0)))).await;
}
