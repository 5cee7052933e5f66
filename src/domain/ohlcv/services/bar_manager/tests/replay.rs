//! Two days of real trades, on the event clock.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use jiff::Timestamp;

use super::*;
use crate::domain::ohlcv::BarSource;
use crate::domain::ohlcv::services::{JoinPoint, roll_up};

fn rows(gzip: &[u8]) -> Vec<Vec<String>> {
    let mut text = String::new();
    GzDecoder::new(gzip).read_to_string(&mut text).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Each trade with the volume of its trading day so far.
fn trades(session: &TradingSession) -> Vec<(Timestamp, f64, f64)> {
    let mut day = None;
    let mut total = 0.0;
    let gzip = include_bytes!("../../../../../../demo/ticks/CME_ES_trades.csv.gz");
    let trade = |row: Vec<String>| {
        let (time, price, size) =
            (row[0].parse().unwrap(), row[1].parse().unwrap(), row[2].parse::<f64>().unwrap());
        let today = session.trading_day_at(time);
        total = if today == day { total + size } else { size };
        day = today;
        (time, price, total)
    };
    rows(gzip).into_iter().map(trade).collect()
}

fn minutes() -> Vec<(Timestamp, Ohlcv)> {
    let gzip = include_bytes!("../../../../../../demo/CME_ES_1m.csv.gz");
    let bar = |row: Vec<String>| {
        let number = |index: usize| row[index].parse::<f64>().unwrap();
        let bar = values(number(1), number(2), number(3), number(4), number(5));
        (row[0].parse().unwrap(), bar)
    };
    rows(gzip).into_iter().map(bar).collect()
}

/// Times as a quote tells them: whole seconds.
fn in_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap()
}

fn replay(batch: usize) {
    let mut desk = Desk::new(FeedClock::Event, ES);
    let session = session(ES);
    let start = at("2013-09-01T21:00:00");
    let point = JoinPoint { before_first_trade: true, ..JoinPoint::default() };
    desk.manager.join(start, desk.id, &point);
    let mut bars: BTreeMap<(Interval, Timestamp), StoredBar> = BTreeMap::new();
    let mut keep = |desk: &mut Desk| {
        desk.manager.advance(start, &mut desk.changes);
        assert!(desk.revised().is_empty(), "no trade is late here");
        for (interval, bar) in desk.closed() {
            assert_eq!(bar.stored.source, BarSource::Ticks);
            assert_eq!(bars.insert((interval, bar.range.open()), bar.stored), None, "closed twice");
        }
        desk.changes.clear();
    };
    for batch in trades(&session).chunks(batch) {
        let tick = |(time, price, total): &(Timestamp, f64, f64)| QuoteTick {
            symbol: desk.id,
            time: in_seconds(*time),
            price: *price,
            size: None,
            cumulative: Some(*total),
        };
        desk.manager.ticks(start, &batch.iter().map(tick).collect::<Vec<_>>());
        keep(&mut desk);
    }
    desk.manager.move_time(start, desk.id, at("2013-09-03T18:53:00"));
    keep(&mut desk);
    for (_, interval, bar) in desk.manager.flush() {
        assert_eq!(bars.insert((interval, bar.range.open()), bar.stored), None, "closed and open");
    }
    let children = minutes();
    assert_eq!(children.len(), 2_264);
    for interval in Interval::ALL {
        let expected = roll_up(children.iter().copied(), &session, interval);
        let expected: Vec<_> = expected.iter().map(|bar| (bar.range.open(), bar.values)).collect();
        let own = bars.iter().filter(|((of, _), _)| *of == interval);
        let own: Vec<_> = own.map(|((_, open), bar)| (*open, bar.values)).collect();
        assert_eq!(own, expected, "{interval}");
    }
    let counts = desk.manager.counts();
    assert_eq!((counts.received, counts.off_session, counts.restated), (500_000, 0, 0));
}

#[test]
fn real_trades_make_the_bars_that_they_made() {
    replay(1_000);
}

#[test]
fn so_they_do_one_by_one() {
    replay(7);
}
