//! On the machine's clock: bars close on time without a tick, never before it, and nothing but
//! trades changes them; what an outage has missed is fetched.
//!
//! A minute takes a minute here, so all of it goes on at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::{BarSource, BarState, ConnectionState, Interval};
use pocketquant::simulator::{Rebase, ReplayConfig};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::engines::Engine;
use crate::market::{Market, Trade, post, time, trades_from};
use crate::support::{TestApp, TestSimulator};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(3);
const MINUTE: i64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_wall_clock_bars_close_on_time_and_an_outage_leaves_no_hole() {
    tokio::join!(bars_close_on_time(), a_cut_over_a_minute(), a_dead_connection());
}

/// What a stream of bars said, and when.
struct Recorder {
    events: Arc<Mutex<Vec<pb::BarEvent>>>,
    count: watch::Receiver<usize>,
}

impl Recorder {
    /// Reads along. No bar that is closed may come before its close.
    async fn start(channel: &Channel, symbols: &[&str], intervals: &[Interval]) -> Self {
        let request = pb::StreamBarsRequest {
            symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
            intervals: intervals.iter().map(|interval| (*interval).into()).collect(),
            ..Default::default()
        };
        let mut stream = QuoteStreamClient::new(channel.clone())
            .stream_bars(request)
            .await
            .unwrap()
            .into_inner();
        let events: Arc<Mutex<Vec<pb::BarEvent>>> = Arc::default();
        let (counted, count) = watch::channel(0);
        let recorded = Arc::clone(&events);
        tokio::spawn(async move {
            while let Ok(Some(event)) = stream.message().await {
                let now = Timestamp::now();
                if let Some(Event::Bar(bar)) = &event.event {
                    let bar = bar.bar.as_ref().unwrap();
                    let close = bar.close_time.unwrap();
                    let close = Timestamp::new(close.seconds, close.nanos).unwrap();
                    let on_time = bar.state() != BarState::Forming && close <= now;
                    assert!(on_time, "at {now}: {bar:?}");
                }
                recorded.lock().unwrap().push(event);
                counted.send_modify(|count| *count += 1);
            }
        });
        Self { events, count }
    }

    /// Waits until `found` finds something in what was said so far.
    async fn until<T>(&mut self, what: &str, found: impl Fn(&[pb::BarEvent]) -> Option<T>) -> T {
        let looking = async {
            loop {
                self.count.mark_unchanged();
                if let Some(found) = found(&self.events.lock().unwrap()) {
                    return found;
                }
                self.count.changed().await.expect("a bar came before its close");
            }
        };
        let found = timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("{what}: {:#?}", bars(&self.events.lock().unwrap())))
    }

    /// The bars of a symbol in a minute or above it, by interval, each in the order in which it
    /// came.
    fn told(&self, symbol: &str) -> BTreeMap<i32, Vec<pb::Bar>> {
        let mut told: BTreeMap<i32, Vec<pb::Bar>> = BTreeMap::new();
        for (of, interval, bar) in bars(&self.events.lock().unwrap()) {
            if of == symbol {
                told.entry(interval).or_default().push(bar);
            }
        }
        told
    }
}

/// The bars among `events`.
fn bars(events: &[pb::BarEvent]) -> Vec<(String, i32, pb::Bar)> {
    let bar = |event: &pb::BarEvent| match &event.event {
        Some(Event::Bar(bar)) => Some((bar.symbol.clone(), bar.interval, bar.bar.unwrap())),
        _ => None,
    };
    events.iter().filter_map(bar).collect()
}

/// Whether a bar of `symbol` that opened before `boundary` is closed.
fn is_closed(events: &[pb::BarEvent], symbol: &str, boundary: i64) -> bool {
    let of = |(name, _, bar): &(String, i32, pb::Bar)| {
        name == symbol && bar.open_time.unwrap().seconds < boundary
    };
    bars(events).iter().any(of)
}

/// How many intervals of `symbol` have a bar of `revision` that ends at `boundary`.
fn revised(events: &[pb::BarEvent], symbol: &str, revision: i32, boundary: i64) -> usize {
    let of = |(name, _, bar): &&(String, i32, pb::Bar)| {
        name == symbol && bar.revision == revision && bar.close_time.unwrap().seconds == boundary
    };
    bars(events).iter().filter(of).count()
}

/// Two trades two seconds apart, and one so late that the market does not end before.
fn two_trades() -> Vec<Trade> {
    let start = time("2024-03-05T14:00:00Z");
    let mut trades = trades_from(start, 2, 2);
    trades.extend(trades_from(start + jiff::SignedDuration::from_hours(1), 1, 1));
    trades
}

async fn rebased(market: &Market) -> TestSimulator {
    market.replay(ReplayConfig { rebase: Some(Rebase::Now), ..ReplayConfig::default() }).await
}

async fn tick(simulator: &TestSimulator, symbol: &str, second: i64, price: f64) {
    let time = Timestamp::from_second(second).unwrap().to_string();
    post(simulator, "tick", json!({"symbol": symbol, "time": time, "price": price, "size": 1}))
        .await;
}

async fn until_second(second: i64) {
    let left = Timestamp::from_second(second).unwrap().duration_since(Timestamp::now());
    sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// Waits until the newest trade of `symbol` has this volume of the day.
async fn until_volume(channel: &Channel, symbol: &str, volume: f64) {
    let mut quotes = QuoteStreamClient::new(channel.clone());
    let looking = async {
        loop {
            let request = pb::GetLatestQuoteRequest { symbol: symbol.to_owned() };
            let quote = quotes.get_latest_quote(request).await;
            if quote.is_ok_and(|quote| quote.into_inner().volume >= Some(volume)) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap();
}

const QUIET: &str = "T:QUIET";
const LATE: &str = "T:LATE";
const NOISE: &str = "T:NOISE";
const AHEAD: &str = "T:AHEAD";

/// How many intervals have a bar that ends with the trading day that ends at `boundary`: all up to
/// the day and, at its end, the week or the month.
fn ending_at(boundary: i64) -> usize {
    let day = Timestamp::from_second(boundary - 1).unwrap().to_zoned(TimeZone::UTC).date();
    let (week, month) = (day.weekday() == Weekday::Sunday, day == day.last_of_month());
    11 + usize::from(week) + usize::from(month)
}

async fn bars_close_on_time() {
    // The trading day of one symbol ends with the minute, and so do all of its bars up to the day.
    let boundary = ((Timestamp::now().as_second() + 25) / MINUTE + 1) * MINUTE;
    let close = Timestamp::from_second(boundary).unwrap().strftime("%H%M").to_string();
    let calendar = json!({"timezone": "Etc/UTC", "session": format!("{close}-{close}:1234567")});
    let mut market = Market::new();
    for symbol in [QUIET, NOISE, AHEAD] {
        market.trades(symbol, &two_trades());
    }
    market.scheduled(LATE, calendar, &two_trades());
    let simulator = rebased(&market).await;
    let settings = [("FEED_CLOCK", "wall"), ("BAR_GRACE", "1s"), ("BAR_LATENESS", "15s")];
    let mut app = TestApp::on(Engine::Embedded, &simulator, &settings).await;
    let symbols = [QUIET, LATE, NOISE, AHEAD];
    let mut recorder = Recorder::start(&app.channel, &symbols, &[]).await;
    for symbol in symbols {
        until_volume(&app.channel, symbol, 3.0).await;
    }
    make_noise(&simulator).await;
    // So that there is a bar to revise, of the last minute before the boundary.
    until_second(boundary - 8).await;
    tick(&simulator, LATE, boundary - 10, 109.25).await;
    until_volume(&app.channel, LATE, 4.0).await;
    let now = Timestamp::now().as_second();
    tick(&simulator, AHEAD, now + 3_600, 999.0).await;
    assert!(Timestamp::now().as_second() < boundary, "it took too long to get here");

    // Nothing trades from here on: the clock closes the bars.
    recorder
        .until("a quiet minute closes", |events| {
            let closed = symbols.iter().all(|symbol| is_closed(events, symbol, boundary));
            (closed && revised(events, LATE, 1, boundary) == ending_at(boundary)).then_some(())
        })
        .await;
    each_trade_counted_once(&recorder);
    late_trades_revise(&simulator, &mut recorder, boundary).await;
    for (interval, _) in recorder.told(LATE) {
        let interval = Interval::try_from(interval).unwrap();
        let synced = app.sync(LATE, interval, 5_000).await.unwrap();
        assert_eq!((synced.bars_inserted, synced.bars_updated), (0, 0), "{synced:?}");
    }
    for symbol in [QUIET, NOISE] {
        let synced = app.sync(symbol, Interval::Interval1m, 5_000).await.unwrap();
        assert_eq!((synced.bars_inserted, synced.bars_updated), (0, 0), "{synced:?}");
    }
    app.stop().await;
}

/// The bars of what was traded before the boundary are those of the trades, and of nothing else.
fn each_trade_counted_once(recorder: &Recorder) {
    for symbol in [QUIET, NOISE, AHEAD] {
        let told = recorder.told(symbol);
        let bar = told[&Interval::Interval1m.into()].last().unwrap();
        assert_eq!((bar.state(), bar.source()), (BarState::Closed, BarSource::Ticks), "{symbol}");
        assert!(bar.high < 200.0 && bar.low > 50.0, "{symbol}: {bar:?}");
        let volume: f64 =
            told[&Interval::Interval1m.into()].iter().map(|bar| bar.volume.unwrap()).sum();
        assert!((volume - 3.0).abs() < f64::EPSILON, "{symbol}: {volume}");
    }
}

async fn late_trades_revise(simulator: &TestSimulator, recorder: &mut Recorder, boundary: i64) {
    // Late, but not too late: the bar and all above it, once. By now the provider has said what it
    // was asked at the close, where a week or a month ended.
    until_second(boundary + 9).await;
    tick(simulator, LATE, boundary - 1, 150.0).await;
    recorder
        .until("a late trade revises", |events| {
            (revised(events, LATE, 2, boundary) == ending_at(boundary)).then_some(())
        })
        .await;
    // Too late: the provider is asked.
    until_second(boundary + 17).await;
    tick(simulator, LATE, boundary - 2, 175.0).await;
    recorder
        .until("a trade that is too late is fetched", |events| {
            (revised(events, LATE, 3, boundary) == ending_at(boundary)).then_some(())
        })
        .await;
    for (interval, told) in recorder.told(LATE) {
        let told: Vec<_> = told
            .iter()
            .filter(|bar| bar.close_time.unwrap().seconds == boundary)
            .map(|bar| (bar.revision, bar.state(), bar.source(), bar.high, bar.close))
            .collect();
        let first = told[0];
        assert_eq!((first.0, first.1, first.2), (1, BarState::Closed, BarSource::Ticks));
        assert_eq!(
            told[1..],
            [
                (2, BarState::Revised, BarSource::Ticks, 150.0, 150.0),
                (3, BarState::Revised, BarSource::Repair, 175.0, 150.0),
            ],
            "{interval}"
        );
    }
}

/// Updates that are no trades.
async fn make_noise(simulator: &TestSimulator) {
    let now = Timestamp::now().as_second();
    for values in [
        json!({"bid": 1.0, "ask": 999.0}),
        json!({"rtc": 999.0, "rtc_time": now, "rch": 1.0}),
        json!({"current_session": "out_of_session", "lp": 999.0, "lp_time": now, "volume": 777.0}),
        json!({"lp": null, "volume": 1e100}),
        json!({"lp": 109.25, "lp_time": now, "volume": 3.0}),
        json!({"current_session": "market"}),
    ] {
        post(simulator, "quote", json!({"symbol": NOISE, "values": values})).await;
    }
}

const LIVE: &str = "T:LIVE";
const STILL: &str = "T:STILL";

/// A market with a trade every two seconds, and one that rests after two.
fn busy_market() -> Market {
    let market = Market::new();
    market.trades(LIVE, &trades_from(time("2024-03-05T14:00:00Z"), 1_200, 2));
    market.trades(STILL, &two_trades());
    market
}

fn feed_is(events: &[pb::BarEvent], state: ConnectionState) -> bool {
    events.iter().any(|event| match &event.event {
        Some(Event::Feed(feed)) => feed.state() == state,
        _ => false,
    })
}

/// The gap that was told of `symbol`: its seconds.
fn gap(events: &[pb::BarEvent], symbol: &str) -> Option<(i64, i64)> {
    events.iter().find_map(|event| match &event.event {
        Some(Event::Gap(gap)) if gap.symbol == symbol => {
            Some((gap.start_time.unwrap().seconds, gap.end_time.unwrap().seconds))
        }
        _ => None,
    })
}

async fn a_cut_over_a_minute() {
    let market = busy_market();
    let simulator = rebased(&market).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[("BAR_GRACE", "1s")]).await;
    let mut quotes = QuoteStreamClient::new(app.channel.clone());
    let request = pb::SubscribeRequest { symbol: LIVE.to_owned() };
    quotes.subscribe(request).await.unwrap();
    let mut recorder = Recorder::start(&app.channel, &[LIVE, STILL], &[Interval::Interval1m]).await;
    until_volume(&app.channel, LIVE, 3.0).await;
    until_volume(&app.channel, STILL, 3.0).await;

    // A whole minute is missed.
    let now = Timestamp::now().as_millisecond();
    let missed = (now / 60_000 + 1) * MINUTE;
    let length = (missed + MINUTE) * 1_000 + 2_000 - now;
    simulator.fault("cut", Some(&length.to_string()), None, true).await;
    recorder
        .until("the cut is told", |events| {
            feed_is(events, ConnectionState::Reconnecting).then_some(())
        })
        .await;
    let status = quotes.get_feed_status(pb::GetFeedStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.state(), ConnectionState::Reconnecting);
    let repaired = recorder
        .until("the missed minute is fetched", |events| {
            let of = |(symbol, _, bar): &(String, i32, pb::Bar)| {
                symbol == LIVE && bar.open_time.unwrap().seconds == missed
            };
            bars(events).into_iter().find(of).map(|(_, _, bar)| bar)
        })
        .await;
    assert_eq!((repaired.source(), repaired.revision), (BarSource::Repair, 1));
    let (from, to) = gap(&recorder.events.lock().unwrap(), LIVE).unwrap();
    assert!(from < missed && missed + MINUTE <= to, "{from}..{to} around {missed}");
    comes_to_what_the_provider_has(&simulator, &app, &mut recorder, to).await;

    let feeds = |event: &&pb::BarEvent| matches!(event.event, Some(Event::Feed(_)));
    let feeds = recorder.events.lock().unwrap().iter().filter(feeds).count();
    assert!(feeds < 15, "how the feed is was told {feeds} times");

    // What rested has one bar, and no other, whatever was asked and told since.
    let still = recorder.told(STILL).remove(&Interval::Interval1m.into()).unwrap();
    let volume: f64 = still.iter().map(|bar| bar.volume.unwrap()).sum();
    assert!(still.iter().all(|bar| bar.revision == 1), "{still:?}");
    assert!((volume - 3.0).abs() < f64::EPSILON, "{still:?}");
    let list = quotes.list_subscriptions(pb::ListSubscriptionsRequest {}).await.unwrap();
    assert_eq!(list.into_inner().subscriptions[0].state(), pb::SubscriptionState::Active);
    app.stop().await;
}

async fn a_dead_connection() {
    let market = busy_market();
    let simulator = rebased(&market).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[("BAR_GRACE", "1s")]).await;
    let mut recorder = Recorder::start(&app.channel, &[LIVE, STILL], &[Interval::Interval1m]).await;
    until_volume(&app.channel, LIVE, 3.0).await;
    simulator.fault("dead", None, None, true).await;
    let died = Timestamp::now().as_second();
    recorder
        .until("it is dead", |events| feed_is(events, ConnectionState::Reconnecting).then_some(()))
        .await;
    simulator.fault("dead", None, None, false).await;
    let (from, to) = recorder.until("the gap is told", |events| gap(events, LIVE)).await;
    // It was noticed half a minute later.
    assert!(from <= died + 1 && died + 29 <= to, "{from}..{to} of {died}");
    comes_to_what_the_provider_has(&simulator, &app, &mut recorder, to).await;
    app.stop().await;
}

/// The minute in which the feed came back closes, and then all that is stored is what a service
/// that was never there before gets from the provider.
async fn comes_to_what_the_provider_has(
    simulator: &TestSimulator,
    app: &TestApp,
    recorder: &mut Recorder,
    back: i64,
) {
    let minute = back / MINUTE * MINUTE;
    recorder
        .until("bars close again", |events| {
            let of = |(symbol, _, bar): &(String, i32, pb::Bar)| {
                symbol == LIVE && bar.open_time.unwrap().seconds >= minute
            };
            bars(events).iter().any(of).then_some(())
        })
        .await;
    let mut fresh = TestApp::start(simulator).await;
    fresh.sync(LIVE, Interval::Interval1m, 5_000).await.unwrap();
    let expected = fresh.export(LIVE, Interval::Interval1m).await;
    let last = expected.last().unwrap().time_ms;
    let mut client = app.market_data.clone();
    let looking = async {
        loop {
            let mut stored =
                crate::support::exported(&mut client, LIVE, Interval::Interval1m).await;
            stored.retain(|bar| bar.time_ms <= last);
            if stored == expected {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "{expected:?}");
    fresh.stop().await;
}
