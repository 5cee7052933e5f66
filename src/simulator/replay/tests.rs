use std::time::Duration;

use super::*;
use crate::domain::symbol::{SessionSpec, TradingSession};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn facts() -> Facts {
    Facts {
        symbol: Symbol::parse("A:B").unwrap(),
        description: String::new(),
        kind: "stock".to_owned(),
        currency: "USD".to_owned(),
        spec: SessionSpec { timezone: "Etc/UTC".to_owned(), ..SessionSpec::default() },
        session: Arc::new(TradingSession::around_the_clock()),
        price_scale: 100,
        minmov: 1,
        has_volume: true,
    }
}

fn replay(times: &[&str], config: ReplayConfig) -> Arc<Replay> {
    let trades = times.iter().map(|text| Trade::new(time(text), 1.0, Some(1.0)));
    let tape = Tape::new(trades.collect()).unwrap();
    let pulse = Arc::new(Pulse::default());
    Arc::new(Replay::new(tape, &facts(), Opening::default(), 0, config, pulse))
}

fn paced(pace: Pace) -> ReplayConfig {
    ReplayConfig { pace, ..ReplayConfig::default() }
}

fn causes(reader: &Reader) -> Vec<Cause> {
    let Reading::Entries(entries, _) = reader.read(100_000, Instant::now()) else {
        panic!("it is a reader")
    };
    let cause = |entry| match entry {
        Entry::Change(change) => change.cause,
        Entry::Fields(_) => panic!("nobody made anything up"),
    };
    entries.into_iter().map(cause).collect()
}

#[tokio::test(start_paused = true)]
async fn at_a_speed_the_position_moves_with_time_and_past_no_trade() {
    let replay =
        replay(&["2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"], paced(Pace::Speed(10.0)));
    let position = || replay.position(Instant::now()).to_string();
    tokio::time::advance(Duration::from_secs(5)).await;
    // It waits for its first reader.
    assert_eq!(position(), "2024-01-01T00:00:00Z");
    let (quote, reader) = replay.subscribe(Instant::now());
    assert_eq!((quote.last, causes(&reader)), (None, Vec::new()));
    assert_eq!(position(), "2024-01-01T00:00:00Z");
    assert_eq!(causes(&reader), [Cause::Trade]);
    tokio::time::advance(Duration::from_millis(2_500)).await;
    assert_eq!((position().as_str(), causes(&reader).len()), ("2024-01-01T00:00:25Z", 0));
    let (bars, _, as_of) = replay.history(Interval::M1, Instant::now());
    assert_eq!((bars.len(), as_of), (1, time("2024-01-01T00:00:25Z")));
    tokio::time::advance(Duration::from_millis(3_500)).await;
    assert_eq!(
        (position().as_str(), causes(&reader)),
        ("2024-01-01T00:01:00Z", vec![Cause::Trade])
    );
    // 00:03 is the end; the time goes on, for a bar that was open closes.
    tokio::time::advance(Duration::from_secs(13)).await;
    assert_eq!((position().as_str(), causes(&reader)), ("2024-01-01T00:03:10Z", vec![Cause::End]));
}

#[tokio::test(start_paused = true)]
async fn a_rate_counts_trades_whatever_lies_between_them() {
    let times = ["2024-01-01T00:00:00Z", "2024-01-05T00:00:00Z", "2024-01-09T00:00:00Z"];
    let replay = replay(&times, paced(Pace::Rate(2.0)));
    let (_, reader) = replay.subscribe(Instant::now());
    for expected in [vec![Cause::Trade], vec![Cause::Trade], vec![Cause::Trade, Cause::End]] {
        let wake = replay.advance(Instant::now());
        assert_eq!(causes(&reader), expected);
        if let Some(wake) = wake {
            assert_eq!(wake - Instant::now(), Duration::from_millis(500));
            tokio::time::advance(Duration::from_millis(500)).await;
        }
    }
    assert_eq!(replay.position(Instant::now()), time("2024-01-09T00:02:00Z"));
    assert_eq!(replay.advance(Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn at_full_speed_the_slowest_reader_governs_until_it_is_given_up() {
    let times = vec!["2024-01-01T00:00:00Z"; 20_000];
    let replay = replay(&times, paced(Pace::Max));
    let (_, slow) = replay.subscribe(Instant::now());
    let (_, fast) = replay.subscribe(Instant::now());
    replay.advance(Instant::now());
    let wake = replay.advance(Instant::now()).unwrap();
    assert_eq!(replay.stats(Instant::now()).updates, feed::WINDOW);
    assert_eq!(causes(&fast).len() as u64, feed::WINDOW);
    assert_eq!(causes(&fast).len(), 0);
    tokio::time::advance(wake - Instant::now()).await;
    assert_eq!(causes(&fast).len(), 0);
    replay.advance(Instant::now());
    assert!(matches!(slow.read(1, Instant::now()), Reading::Lost));
    assert_eq!(causes(&fast).len() as u64, feed::WINDOW);
    assert_eq!(replay.pulse.lost_readers.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn at_full_speed_it_goes_on_without_readers_but_not_without_bound() {
    let times = vec!["2024-01-01T00:00:00Z"; 20_000];
    let config = ReplayConfig { looping: true, ..paced(Pace::Max) };
    let replay = replay(&times, config);
    drop(replay.subscribe(Instant::now()));
    for _ in 0..10 {
        let wake = replay.advance(Instant::now()).unwrap();
        tokio::time::advance(wake.max(Instant::now()) - Instant::now()).await;
    }
    let updates = replay.stats(Instant::now()).updates;
    assert!((1..=25_000).contains(&updates), "{updates}");
}

#[tokio::test(start_paused = true)]
async fn whoever_looks_first_wakes_all_who_read() {
    let times = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z", "2024-01-01T00:00:02Z"];
    let replay = replay(&times, paced(Pace::Speed(1.0)));
    let (_, reader) = replay.subscribe(Instant::now());
    let mut happenings = replay.pulse.happenings();
    let looks: [fn(&Replay); 3] = [
        |replay| _ = replay.position(Instant::now()),
        |replay| drop(replay.history(Interval::M1, Instant::now())),
        |replay| drop(replay.stats(Instant::now())),
    ];
    for look in looks {
        happenings.mark_unchanged();
        look(&replay);
        assert!(happenings.has_changed().unwrap());
        assert_eq!(causes(&reader), [Cause::Trade]);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}
