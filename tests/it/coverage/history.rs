//! Coverage of what was synced, on real data.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use pocketquant::common::error::Coded as _;
use pocketquant::domain::coverage::TimeRange;
use pocketquant::domain::shared;
use pocketquant::infrastructure::interfaces::{HistoryProvider, HistoryRequest, HistoryStream};
use pocketquant::proto::v1::CoverageReason::{Data, MarketClosed, NotSynced, ProviderEmpty};
use pocketquant::proto::v1::Interval;
use pocketquant::simulator::SimulatorConfig;
use prost_types::Timestamp as PbTimestamp;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{coverage, of, repair, row, time};
use crate::database::{self, Store, closed, inserted, series, write};
use crate::engines::{Engine, on_every_engine};
use crate::support::{TestApp, TestSimulator, demo_data, reason};
use crate::sync_service::Syncing;

on_every_engine!(
    the_holes_of_a_real_series_are_those_that_its_provider_has,
    holidays_and_weekends_are_closed_and_a_day_that_should_trade_is_empty,
    minutes_without_trades_and_an_early_close_are_told_apart,
    weeks_and_months_are_whole,
    what_was_never_synced_is_said_to_be,
    a_part_that_was_synced_is_told_from_what_was_not,
);

const BTC: &str = "BINANCE:BTCUSDT";
const IBM: &str = "NYSE:IBM";
const ES: &str = "CME:ES";

/// The last hour before a hole and the first bar after it, as the data's table has them.
const HOLES: [(&str, &str); 28] = [
    ("2017-09-06T15:00", "2017-09-06T23:00"),
    ("2018-01-04T03:00", "2018-01-04T05:00"),
    ("2018-02-08T00:00", "2018-02-09T09:00"),
    ("2018-06-26T01:00", "2018-06-26T12:00"),
    ("2018-06-27T12:00", "2018-06-27T14:00"),
    ("2018-07-04T00:00", "2018-07-04T08:00"),
    ("2018-10-19T05:00", "2018-10-19T09:00"),
    ("2018-11-14T01:00", "2018-11-14T09:00"),
    ("2019-03-12T01:00", "2019-03-12T08:00"),
    ("2019-05-15T02:00", "2019-05-15T13:00"),
    ("2019-08-15T01:00", "2019-08-15T10:00"),
    ("2019-11-13T01:00", "2019-11-13T04:00"),
    ("2019-11-25T01:00", "2019-11-25T04:00"),
    ("2020-02-09T01:00", "2020-02-09T03:00"),
    ("2020-02-19T11:00", "2020-02-19T17:00"),
    ("2020-03-04T09:00", "2020-03-04T11:00"),
    ("2020-04-25T01:00", "2020-04-25T04:00"),
    ("2020-06-28T01:00", "2020-06-28T05:00"),
    ("2020-11-30T05:00", "2020-11-30T07:00"),
    ("2020-12-21T14:00", "2020-12-21T18:00"),
    ("2020-12-25T01:00", "2020-12-25T03:00"),
    ("2021-02-11T03:00", "2021-02-11T05:00"),
    ("2021-03-06T01:00", "2021-03-06T03:00"),
    ("2021-04-20T01:00", "2021-04-20T04:00"),
    ("2021-04-25T04:00", "2021-04-25T08:00"),
    ("2021-08-13T01:00", "2021-08-13T06:00"),
    ("2021-09-29T06:00", "2021-09-29T09:00"),
    ("2023-03-24T12:00", "2023-03-24T14:00"),
];

/// An hour later.
fn next_hour(text: &str) -> String {
    let time: Timestamp = format!("{text}:00Z").parse().unwrap();
    let next = Timestamp::from_second(time.as_second() + 3_600).unwrap().to_string();
    next.strip_suffix(":00Z").unwrap().to_owned()
}

async fn the_holes_of_a_real_series_are_those_that_its_provider_has(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let result = app.sync_all(BTC, Interval::Interval1h).await.unwrap();
    let whole = ("2017-08-17T04:00", "2024-01-02T00:00");
    let rows = coverage(&mut app.market_data, BTC, Interval::Interval1h, whole).await.unwrap();

    let holes = of(&rows, ProviderEmpty);
    let expected: Vec<_> = HOLES
        .iter()
        .map(|(before, after)| row(&next_hour(before), after, ProviderEmpty, 0))
        .collect();
    assert_eq!(holes, expected.iter().collect::<Vec<_>>());
    assert_eq!(rows.len(), 2 * 28 + 1, "all else is data: {rows:#?}");
    let bars: i32 = of(&rows, Data).iter().map(|row| row.3).sum();
    assert_eq!(bars, result.total_bars);

    // Asked for from before the first bar: that nobody knows, and it is no hole.
    let from_midnight = ("2017-08-17", "2017-09-06T00:00");
    let rows =
        coverage(&mut app.market_data, BTC, Interval::Interval1h, from_midnight).await.unwrap();
    let begins = row("2017-08-17T00:00", "2017-08-17T04:00", NotSynced, 0);
    assert_eq!((rows.len(), &rows[0]), (2, &begins));
    // Asked for by a repair, the provider says that it has nothing older.
    let repaired = repair(&mut app.market_data, BTC, Interval::Interval1h, from_midnight).await;
    let empty = row("2017-08-17T00:00", "2017-08-17T04:00", ProviderEmpty, 0);
    assert_eq!(repaired.unwrap().1, std::slice::from_ref(&empty));
    let rows =
        coverage(&mut app.market_data, BTC, Interval::Interval1h, from_midnight).await.unwrap();
    assert_eq!(rows[0], empty);
    let (result, repaired) =
        repair(&mut app.market_data, BTC, Interval::Interval1h, whole).await.unwrap();
    assert_eq!((result.bars_fetched, repaired.len()), (0, 0), "nothing is missing");
    app.stop().await;
}

/// A copy of the data in which `without` is no holiday.
fn data_without(without: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["symbols.json", "NYSE_IBM_1d.csv"] {
        std::fs::copy(demo_data().join(name), folder.path().join(name)).unwrap();
    }
    let symbols = folder.path().join("symbols.json");
    let text = std::fs::read_to_string(&symbols).unwrap();
    let (before, after) = text.split_once(&format!("\"{without}\",")).unwrap();
    std::fs::write(symbols, format!("{before}{after}")).unwrap();
    folder
}

async fn ibm(engine: Engine, data: &Path) -> (TestSimulator, TestApp) {
    let simulator = TestSimulator::start(data).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync_all(IBM, Interval::Interval1d).await.unwrap();
    (simulator, app)
}

async fn holidays_and_weekends_are_closed_and_a_day_that_should_trade_is_empty(engine: Engine) {
    let (_simulator, mut app) = ibm(engine, demo_data()).await;
    let christmas = ("2012-12-21T14:30", "2012-12-27T14:30");
    let rows = coverage(&mut app.market_data, IBM, Interval::Interval1d, christmas).await.unwrap();
    let expected = [
        row("2012-12-21T14:30", "2012-12-22T14:30", Data, 1),
        row("2012-12-22T14:30", "2012-12-24T14:30", MarketClosed, 0),
        // An early close is a day like any other.
        row("2012-12-24T14:30", "2012-12-25T14:30", Data, 1),
        row("2012-12-25T14:30", "2012-12-26T14:30", MarketClosed, 0),
        row("2012-12-26T14:30", "2012-12-27T14:30", Data, 1),
    ];
    assert_eq!(rows, expected);
    // Thirteen years, with both clock changes of each.
    let whole = ("2000-03-01T14:30", "2013-03-02T14:30");
    let rows = coverage(&mut app.market_data, IBM, Interval::Interval1d, whole).await.unwrap();
    assert!(rows.iter().all(|row| matches!(row.2, Data | MarketClosed)), "{rows:?}");
    assert_eq!(rows.iter().map(|row| row.3).sum::<i32>(), 3_270);
    app.stop().await;

    let folder = data_without("2012-12-25");
    let (_simulator, mut app) = ibm(engine, folder.path()).await;
    let rows = coverage(&mut app.market_data, IBM, Interval::Interval1d, christmas).await.unwrap();
    let mut without = expected;
    without[3].2 = ProviderEmpty;
    assert_eq!(rows, without);
    app.stop().await;
}

async fn minutes_without_trades_and_an_early_close_are_told_apart(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync_all(ES, Interval::Interval1m).await.unwrap();
    let whole = ("2013-09-01T22:00", "2013-09-03T18:52");
    let rows = coverage(&mut app.market_data, ES, Interval::Interval1m, whole).await.unwrap();
    let closed: Vec<_> = of(&rows, MarketClosed).into_iter().cloned().collect();
    let labor_day = row("2013-09-02T15:30", "2013-09-02T22:00", MarketClosed, 0);
    assert_eq!(closed, [labor_day]);
    let minutes = |text: &str| format!("{text}:00Z").parse::<Timestamp>().unwrap().as_second() / 60;
    let empty = of(&rows, ProviderEmpty);
    let without: i64 = empty.iter().map(|row| minutes(&row.1) - minutes(&row.0)).sum();
    assert_eq!(without, 428 - 390, "minutes without a trade, but for those of the early close");
    assert_eq!(rows.iter().map(|row| row.3).sum::<i32>(), 2_264);
    app.stop().await;
}

async fn weeks_and_months_are_whole(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    for (interval, from, to, bars) in [
        (Interval::Interval1w, "2000-03-06T14:30", "2013-02-25T14:30", 677),
        (Interval::Interval1mo, "2000-03-01T14:30", "2013-03-01T14:30", 156),
    ] {
        app.sync_all(IBM, interval).await.unwrap();
        let rows = coverage(&mut app.market_data, IBM, interval, (from, to)).await.unwrap();
        // The week of September 11th, 2001 traded on its Monday only.
        assert_eq!(rows, [row(from, to, Data, bars)]);
    }
    app.stop().await;
}

async fn what_was_never_synced_is_said_to_be(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let week = ("2012-12-24", "2012-12-27");
    let unknown =
        coverage(&mut app.market_data, IBM, Interval::Interval1h, week).await.unwrap_err();
    assert_eq!(reason(&unknown), (Code::NotFound, "NOT_SYNCED".to_owned()));

    // Its session is known from the daily series.
    app.sync(IBM, Interval::Interval1d, 10).await.unwrap();
    let rows = coverage(&mut app.market_data, IBM, Interval::Interval1h, week).await.unwrap();
    let expected = [
        row("2012-12-24T00:00", "2012-12-24T14:30", MarketClosed, 0),
        row("2012-12-24T14:30", "2012-12-24T18:00", NotSynced, 0),
        row("2012-12-24T18:00", "2012-12-26T14:30", MarketClosed, 0),
        row("2012-12-26T14:30", "2012-12-26T21:00", NotSynced, 0),
        row("2012-12-26T21:00", "2012-12-27T00:00", MarketClosed, 0),
    ];
    assert_eq!(rows, expected);

    let future = ("2093-01-05", "2093-01-07");
    let rows = coverage(&mut app.market_data, IBM, Interval::Interval1d, future).await.unwrap();
    assert!(rows.iter().all(|row| matches!(row.2, NotSynced | MarketClosed)), "{rows:?}");
    let (result, repaired) =
        repair(&mut app.market_data, IBM, Interval::Interval1d, future).await.unwrap();
    assert_eq!((result.bars_fetched, repaired.len()), (0, 0), "nobody has the future");

    // A repair of what was never synced is a sync.
    let days = ("2013-01-02T14:30", "2013-02-01T14:30");
    let (result, repaired) =
        repair(&mut app.market_data, "NASDAQ:AAPL-UNADJ", Interval::Interval1d, days)
            .await
            .unwrap();
    assert!(result.bars_inserted >= 21, "{result:?}");
    assert_eq!(repaired.iter().map(|row| row.3).sum::<i32>(), 21);
    app.stop().await;
}

async fn a_part_that_was_synced_is_told_from_what_was_not(engine: Engine) {
    // The world stands still on a Tuesday at noon.
    let now = "2012-12-18T17:00:00Z".parse().unwrap();
    let config = SimulatorConfig { now: Some(now), ..SimulatorConfig::new(demo_data()) };
    let simulator = TestSimulator::with(config).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync(IBM, Interval::Interval1d, 3).await.unwrap();
    let week = ("2012-12-12T14:30", "2012-12-20T14:30");
    let rows = coverage(&mut app.market_data, IBM, Interval::Interval1d, week).await.unwrap();
    let expected = [
        row("2012-12-12T14:30", "2012-12-14T14:30", NotSynced, 0),
        row("2012-12-14T14:30", "2012-12-15T14:30", Data, 1),
        row("2012-12-15T14:30", "2012-12-17T14:30", MarketClosed, 0),
        row("2012-12-17T14:30", "2012-12-18T14:30", Data, 1),
        // Tuesday's bar came unfinished, and its time is over by our clock: what it came to is
        // not known.
        row("2012-12-18T14:30", "2012-12-20T14:30", NotSynced, 0),
    ];
    assert_eq!(rows, expected);
    let later = TestSimulator::start(demo_data()).await;
    let mut app = app.restarted(&later).await;
    let (_, repaired) =
        repair(&mut app.market_data, IBM, Interval::Interval1d, week).await.unwrap();
    let expected = [
        row("2012-12-12T14:30", "2012-12-14T14:30", Data, 2),
        row("2012-12-18T14:30", "2012-12-20T14:30", Data, 2),
    ];
    assert_eq!(repaired, expected);
    app.stop().await;
}

#[tokio::test]
async fn more_segments_than_fit_into_an_answer_are_the_callers_mistake() {
    let store = Store::sqlite().await;
    let syncing = Syncing::start(&store, Arc::new(Nothing)).await;
    let series = series("A:B", shared::Interval::M1);
    // Every second minute.
    let bars = (0..25_001).map(|index| closed(2 * index, 1.0));
    write(&store.database, &series, &inserted(bars)).await;
    let survey = async |minutes| {
        let range = TimeRange::new(database::time(0), database::time(minutes)).unwrap();
        syncing.repairs.repair(&series, range, |_| false).await
    };
    assert!(survey(50_000).await.is_ok());
    let error = survey(50_001).await.unwrap_err();
    assert!(error.violations()[0].description.contains("50000 segments"), "{error:?}");
}

/// A provider that is not asked.
#[derive(Debug)]
struct Nothing;

impl HistoryProvider for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn history(&self, request: HistoryRequest) -> HistoryStream {
        panic!("{request:?}")
    }
}

#[tokio::test]
async fn a_range_that_is_none_or_too_long_is_the_callers_mistake() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    app.sync(BTC, Interval::Interval1h, 10).await.unwrap();
    let request = pocketquant::proto::v1::GetCoverageRequest {
        symbol: "no symbol".to_owned(),
        interval: 0,
        start_time: None,
        end_time: Some(PbTimestamp { seconds: 0, nanos: -1 }),
    };
    let status = app.market_data.get_coverage(request).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|each| each.field.as_str()).collect();
    assert_eq!(fields, ["symbol", "interval", "start_time", "end_time"]);

    let years = ("2000-01-01", "2024-01-01");
    for interval in [Interval::Interval1m, Interval::Interval3m] {
        let status = coverage(&mut app.market_data, BTC, interval, years).await.unwrap_err();
        assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "end_time");
        assert!(violations[0].description.contains("500000"), "{violations:?}");
        let status = repair(&mut app.market_data, BTC, interval, years).await.unwrap_err();
        assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    }
    let rows =
        coverage(&mut app.market_data, BTC, Interval::Interval1mo, ("0001-01-01", "9999-12-30"));
    assert_eq!(rows.await.unwrap()[0].2, NotSynced);
    assert_eq!(time("1970-01-01").seconds, 0);
    app.stop().await;
}
