//! What streams are asked, and how they refuse.

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::{Interval, bar_event, quote_event};
use pocketquant::simulator::Pace;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::market::{PATIENCE, QUIET, TRADED, bars_of, next, quotes, replay, trades};
use crate::engines::Engine;
use crate::support::{TestApp, reason};

const CLOCK: (&str, &str) = ("FEED_CLOCK", "event");

async fn refused(app: &TestApp, symbols: &[&str]) -> [Status; 2] {
    let quotes_of = pb::StreamQuotesRequest {
        symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        ..Default::default()
    };
    let bars = quotes(app).stream_bars(bars_of(symbols, &[])).await.unwrap_err();
    [quotes(app).stream_quotes(quotes_of).await.unwrap_err(), bars]
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_symbols_and_intervals_are_bounded_and_every_mistake_is_named() {
    let folder = trades(3);
    let simulator = replay(&folder, Pace::Max).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let names: Vec<String> = (0..1_001).map(|number| format!("TEST:N{number}")).collect();
    let too_many: Vec<&str> = names.iter().map(String::as_str).collect();
    for symbols in [&[][..], &too_many] {
        for status in refused(&app, symbols).await {
            assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
            let fields = status.get_details_bad_request().unwrap().field_violations;
            assert_eq!((fields.len(), fields[0].field.as_str()), (1, "symbols"));
            assert!(fields[0].description.contains("1 to 1000"), "{fields:?}");
        }
    }
    for status in refused(&app, &["no symbol", TRADED, ""]).await {
        let fields = status.get_details_bad_request().unwrap().field_violations;
        let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["symbols[0]", "symbols[2]"]);
    }
    let mut intervals = bars_of(&[TRADED], &[Interval::Unspecified]);
    intervals.intervals.push(99);
    let status = quotes(&app).stream_bars(intervals).await.unwrap_err();
    let fields = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["intervals[0]", "intervals[1]"]);
    for seconds in [-1, 61] {
        let conflate = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = pb::StreamQuotesRequest { symbols: vec![TRADED.to_owned()], conflate };
        let status = quotes(&app).stream_quotes(request).await.unwrap_err();
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields[0].field, "conflate");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symbol_that_is_listed_twice_is_streamed_once() {
    let folder = trades(6);
    let simulator = replay(&folder, Pace::Max).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    let twice = [TRADED, "test:traded", TRADED];
    let minute = Interval::Interval1m;
    let stream = quotes(&app).stream_bars(bars_of(&twice, &[minute, minute])).await.unwrap();
    let mut stream = stream.into_inner();
    let mut minutes = Vec::new();
    while minutes.len() < 6 {
        if let Some(bar_event::Event::Bar(bar)) = next(&mut stream).await.event {
            minutes.push(super::market::seen(&bar).minute);
        }
    }
    assert_eq!(minutes, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_symbol_is_told_and_the_others_go_on_but_only_unknown_ones_are_not_found() {
    let folder = trades(6);
    let simulator = replay(&folder, Pace::Max).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[CLOCK]).await;
    for status in refused(&app, &["TEST:NOPE", "TEST:NADA"]).await {
        assert_eq!(reason(&status), (Code::NotFound, "SYMBOL_NOT_FOUND".to_owned()));
    }
    let symbols = ["TEST:NOPE", TRADED, QUIET];
    let stream = quotes(&app).stream_bars(bars_of(&symbols, &[Interval::Interval1m])).await;
    let mut stream = stream.unwrap().into_inner();
    let (mut errors, mut bars) = (Vec::new(), 0);
    while errors.is_empty() || bars < 6 {
        let event = next(&mut stream).await.event.unwrap();
        if let bar_event::Event::SymbolError(refused) = event {
            errors.push(refused);
        } else if let bar_event::Event::Bar(told) = event {
            bars += usize::from(told.symbol == TRADED);
        }
    }
    assert_eq!(errors.len(), 1, "it is told once");
    let error = errors.remove(0);
    assert_eq!(error.symbol, "TEST:NOPE");
    assert_eq!(error.error.unwrap().code, i32::from(Code::NotFound));

    let symbols = symbols.map(ToOwned::to_owned).to_vec();
    let request = pb::StreamQuotesRequest { symbols, ..Default::default() };
    let mut stream = quotes(&app).stream_quotes(request).await.unwrap().into_inner();
    let (mut error, mut quote) = (None, None);
    while error.is_none() || quote.is_none() {
        let event = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        if let Some(quote_event::Event::SymbolError(refused)) = event.event {
            error = Some(refused);
        } else if let Some(quote_event::Event::Quote(told)) = event.event {
            quote = Some(told);
        }
    }
    assert_eq!(error.unwrap().symbol, "TEST:NOPE");
}
