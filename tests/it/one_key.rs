//! A bar made of ticks and the same bar of the provider's have one key: on sessions of three kinds,
//! over the end of summer time, a holiday and early closes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pocketquant::domain::shared;
use pocketquant::domain::symbol::TradingSession;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::simulator::{Pace, ReplayConfig};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::engines::{Engine, on_every_engine};
use crate::market::{Market, Trade, bars_of_trades, session, time};
use crate::support::{ExportedBar, TestApp};

on_every_engine!(ticks_and_provider_agree_on_the_key_of_every_bar);

const PATIENCE: Duration = Duration::from_mins(2);

const COMPARED: [(Interval, shared::Interval); 5] = [
    (Interval::Interval1m, shared::Interval::M1),
    (Interval::Interval1h, shared::Interval::H1),
    (Interval::Interval1d, shared::Interval::D1),
    (Interval::Interval1w, shared::Interval::W1),
    (Interval::Interval1mo, shared::Interval::Mo1),
];

/// A symbol on a calendar, and bars that it must have, by when they open.
struct Case {
    symbol: &'static str,
    timezone: &'static str,
    session: &'static str,
    holidays: &'static [&'static str],
    early: &'static [(&'static str, &'static str)],
    /// Minutes between two trades.
    pace: i64,
    hours: &'static [&'static str],
    days: &'static [&'static str],
    weeks: &'static [&'static str],
    months: &'static [&'static str],
}

const CASES: [Case; 4] = [
    Case {
        symbol: "NYSE:A",
        timezone: "America/New_York",
        session: "0930-1600",
        holidays: &["2024-11-28"],
        early: &[("0930-1300", "2024-11-29")],
        pace: 7,
        // The last bar of a day is half an hour long, an early close's too.
        hours: &[
            "2024-11-01T13:30:00Z",
            "2024-11-01T19:30:00Z",
            "2024-11-04T20:30:00Z",
            "2024-11-29T17:30:00Z",
        ],
        days: &["2024-11-01T13:30:00Z", "2024-11-04T14:30:00Z", "2024-11-29T14:30:00Z"],
        weeks: &["2024-10-28T13:30:00Z", "2024-11-04T14:30:00Z", "2024-11-25T14:30:00Z"],
        months: &["2024-11-01T13:30:00Z", "2024-12-02T14:30:00Z"],
    },
    Case {
        symbol: "CME:B",
        timezone: "America/Chicago",
        session: "1700-1600",
        holidays: &[],
        early: &[("1700-1200", "2024-11-28"), ("1700-1215", "2024-11-29")],
        pace: 23,
        // The evening before, by the clock of the exchange.
        hours: &["2024-10-31T22:00:00Z", "2024-11-03T23:00:00Z", "2024-11-29T18:00:00Z"],
        days: &["2024-10-31T22:00:00Z", "2024-11-03T23:00:00Z", "2024-11-28T23:00:00Z"],
        weeks: &["2024-10-27T22:00:00Z", "2024-11-03T23:00:00Z"],
        months: &["2024-10-31T22:00:00Z", "2024-12-01T23:00:00Z"],
    },
    Case {
        symbol: "FX:C",
        timezone: "America/New_York",
        session: "1700-1700",
        holidays: &[],
        early: &[],
        pace: 29,
        hours: &["2024-11-01T20:00:00Z", "2024-11-03T22:00:00Z"],
        days: &["2024-10-31T21:00:00Z", "2024-11-03T22:00:00Z"],
        weeks: &["2024-10-27T21:00:00Z", "2024-11-03T22:00:00Z"],
        months: &["2024-10-31T21:00:00Z", "2024-12-01T22:00:00Z"],
    },
    Case {
        symbol: "BINANCE:D",
        timezone: "Etc/UTC",
        session: "24x7",
        holidays: &[],
        early: &[],
        pace: 31,
        hours: &["2024-11-03T06:00:00Z"],
        days: &["2024-11-03T00:00:00Z"],
        weeks: &["2024-10-28T00:00:00Z", "2024-11-04T00:00:00Z"],
        months: &["2024-11-01T00:00:00Z", "2024-12-01T00:00:00Z"],
    },
];

impl Case {
    /// The calendar as `symbols.json` has it.
    fn listed(&self) -> Value {
        let early: serde_json::Map<String, Value> =
            self.early.iter().map(|(ranges, day)| ((*ranges).to_owned(), json!([day]))).collect();
        json!({"timezone": self.timezone, "session": self.session, "holidays": self.holidays, "early_closes": early})
    }

    fn calendar(&self) -> Arc<TradingSession> {
        let corrections =
            self.early.iter().map(|(ranges, day)| format!("{ranges}:{}", day.replace('-', "")));
        let off = self.holidays.iter().map(|day| format!("dayoff:{}", day.replace('-', "")));
        let corrections: Vec<String> = corrections.chain(off).collect();
        session(self.timezone, self.session, &corrections.join(";"))
    }

    /// Bars that there must be of each interval that is compared.
    fn keys(&self) -> [&'static [&'static str]; 5] {
        [&[], self.hours, self.days, self.weeks, self.months]
    }

    /// Trades while the exchange is open, from the last week of October to the third of December,
    /// and in the first and the last second of every day.
    fn trades(&self) -> Vec<Trade> {
        let session = self.calendar();
        let mut times = Vec::new();
        let (mut at, end) = (time("2024-10-27T00:00:00Z"), time("2024-12-04T00:00:00Z"));
        while at < end {
            match session.hours_at(at) {
                Some(hours) => {
                    times.extend([at, hours.open(), hours.close() - SignedDuration::from_secs(1)]);
                    at += SignedDuration::from_mins(self.pace);
                }
                None => at = session.next_hours(at).unwrap().open(),
            }
        }
        times.sort_unstable();
        times.dedup();
        let trade = |(number, time): (i32, Timestamp)| Trade {
            time,
            price: 50.0 + f64::from(number * 37 % 90) / 4.0,
            size: f64::from(1 + number % 9),
        };
        (0..).zip(times).map(trade).collect()
    }
}

/// When the stored bars of a series open, those that form too.
async fn keys(app: &mut TestApp, symbol: &str, interval: Interval) -> Vec<i64> {
    let page = app
        .bars(symbol, interval, |request| {
            request.limit = Some(5_000);
            request.include_forming = true;
            request.set_order(pb::BarOrder::OldestFirst);
        })
        .await
        .unwrap();
    page.bars.iter().map(|bar| bar.open_time.unwrap().seconds).collect()
}

async fn ticks_and_provider_agree_on_the_key_of_every_bar(engine: Engine) {
    let mut market = Market::new();
    let cases = CASES.map(|case| (case.trades(), case));
    for (trades, case) in &cases {
        market.scheduled(case.symbol, case.listed(), trades);
    }
    let simulator =
        market.replay(ReplayConfig { pace: Pace::Max, ..ReplayConfig::default() }).await;
    let mut app = TestApp::on(engine, &simulator, &[("FEED_CLOCK", "event")]).await;
    let mut quotes = QuoteStreamClient::new(app.channel.clone());
    for (_, case) in &cases {
        let request = pb::SubscribeRequest { symbol: case.symbol.to_owned() };
        quotes.subscribe(request).await.unwrap();
    }
    for (trades, case) in &cases {
        for (asked, interval) in COMPARED {
            let expected = bars_of_trades(trades, &case.calendar(), interval);
            let mut found = Vec::new();
            let looking = async {
                while !closed_of(&expected, &found) {
                    sleep(Duration::from_millis(50)).await;
                    found = app.export(case.symbol, asked).await;
                }
            };
            let came = timeout(PATIENCE, looking).await;
            assert!(came.is_ok(), "{} {asked:?}: {found:?} is not {expected:?}", case.symbol);
        }
    }
    for (_, case) in &cases {
        for (interval, _) in COMPARED {
            let of_ticks = app.export(case.symbol, interval).await;
            comes_to_nothing_new(&mut app, case.symbol, interval).await;
            assert_eq!(app.export(case.symbol, interval).await, of_ticks);
        }
    }
    // What is forming is the feed's while it runs; now the provider's is stored, under the same key.
    quotes.stop_feed(pb::StopFeedRequest {}).await.unwrap();
    for (_, case) in &cases {
        let symbol = case.symbol;
        for ((interval, _), expected) in COMPARED.into_iter().zip(case.keys()) {
            let of_ticks = keys(&mut app, symbol, interval).await;
            comes_to_nothing_new(&mut app, symbol, interval).await;
            let keys = keys(&mut app, symbol, interval).await;
            assert_eq!(keys, of_ticks, "{symbol} {interval:?}");
            for key in expected {
                let second = time(key).as_second();
                assert!(keys.contains(&second), "{symbol} {interval:?}: {key} is not in {keys:?}");
            }
        }
    }
    app.stop().await;
}

/// Whether `found` are all of `bars` but, it may be, the last, which is still forming.
fn closed_of(bars: &[ExportedBar], found: &[ExportedBar]) -> bool {
    found == bars || bars.split_last().is_some_and(|(_, closed)| found == closed)
}

/// Everything that the provider has of a series is stored already.
async fn comes_to_nothing_new(app: &mut TestApp, symbol: &str, interval: Interval) {
    let synced = app.sync(symbol, interval, 5_000).await.unwrap();
    let changed = (synced.bars_inserted, synced.bars_updated, synced.bars_rejected);
    assert_eq!(changed, (0, 0, 0), "{synced:?}");
    assert!(synced.bars_unchanged > 0, "{synced:?}");
}
