//! The live half of the demo: quotes of a replayed market, and the bars that are built from them.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;

use super::super::client::{Client, ClientOptions};
use super::super::names::interval as to_pb_interval;
use super::super::output::{Output, redraws};
use super::super::times::from_pb;
use super::super::watch::{
    BarBoard, BarSource, Board, Heard, Lines, QuoteBoard, QuoteSource, Says, Source as _,
    TableView, View, follow, show,
};
use crate::domain::shared::Interval;
use crate::proto::v1::bar_event::Event;
use crate::proto::v1::{Bar, BarEvent, QuoteEvent, SeriesBar, SubscribeRequest};

/// The symbol whose recorded trades are replayed.
pub(super) const LIVE: &str = "CME:ES";
/// How many times faster than they were.
pub(super) const SPEED: f64 = 60.0;
/// What closes while one looks on.
const LENGTHS: [Interval; 2] = [Interval::M1, Interval::M5];
/// Bars that are shown when the demo is to end.
const SHOWN: usize = 6;
/// Longest wait for them.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two lines of quotes; between two looks at a table.
const CONFLATE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));
const QUEUE: usize = 256;
/// Lines of a table of one quote.
const QUOTE_LINES: usize = 8;

/// Lines of a table of bars that still are a glance.
const LONGEST: usize = 22;

/// Open, high, low, close and volume of each minute of the file, by its time.
pub(super) type FileMinutes = HashMap<Timestamp, [f64; 5]>;

/// Follows the replayed symbol, and shows it until it is dropped. Returns only with a failure.
pub(super) async fn run(options: ClientOptions) -> anyhow::Result<()> {
    let client = subscribed(options).await?;
    if redraws(&io::stdout()) {
        let board = LiveBoard { quotes: QuoteBoard::new(&symbols()), bars: BarBoard::default() };
        return watch(&client, CONFLATE.1, TableView::new(board)).await;
    }
    watch(&client, CONFLATE.0, Lines::new(false)).await
}

/// Shows the first bars that close, each held against the file where that has its minute. One that
/// differs is an error.
pub(super) async fn first_bars(
    options: ClientOptions,
    minutes: &FileMinutes,
    output: &mut Output,
) -> anyhow::Result<()> {
    let client = subscribed(options).await?;
    output.line(format!("\nbars of {LIVE}, built from recorded trades, {SPEED} times as fast:"))?;
    output.flush()?;
    let listening = async {
        let mut stream = bars(false).open(&client).await?;
        let mut shown = 0;
        while shown < SHOWN {
            let event = client.next(&mut stream).await?.context("the stream of bars ended")?;
            if let Some(Event::Bar(SeriesBar { bar: Some(bar), interval, .. })) = &event.event {
                let minute = *interval == i32::from(to_pb_interval(Interval::M1));
                let verdict = if minute { verdict(bar, minutes)? } else { "" };
                let line = event.line().unwrap_or_default();
                output.line(format!("  {line}{verdict}"))?;
                output.flush()?;
                shown += 1;
            }
        }
        Ok(())
    };
    let waited = timeout(PATIENCE, listening).await;
    waited.unwrap_or_else(|_| Err(anyhow!("too few bars closed within {} s", PATIENCE.as_secs())))
}

/// Whether a minute is the file's.
fn verdict(bar: &Bar, minutes: &FileMinutes) -> anyhow::Result<&'static str> {
    let time = from_pb(bar.open_time).context("a bar has no time")?;
    let Some(expected) = minutes.get(&time) else { bail!("the file has no minute at {time}") };
    let values = [bar.open, bar.high, bar.low, bar.close, bar.volume.unwrap_or(f64::NAN)];
    let equal = values.iter().zip(expected).all(|(one, other)| one.total_cmp(other).is_eq());
    ensure!(equal, "the minute at {time} is {values:?}, and {expected:?} in the file");
    Ok(", equal to the file's")
}

fn symbols() -> Vec<String> {
    vec![LIVE.to_owned()]
}

fn bars(include_forming: bool) -> BarSource {
    BarSource { symbols: symbols(), intervals: LENGTHS.into(), include_forming, from: None }
}

async fn subscribed(options: ClientOptions) -> anyhow::Result<Client> {
    let client = Client::connect(options).await?;
    let request = client.request(SubscribeRequest { symbol: LIVE.to_owned() });
    let subscribed = client.answer(client.quotes().subscribe(request)).await;
    subscribed.with_context(|| format!("cannot subscribe to {LIVE}"))?;
    Ok(client)
}

/// Something that one of the two streams says.
#[derive(Debug)]
enum Live {
    Quotes(QuoteEvent),
    Bars(BarEvent),
}

async fn watch(
    client: &Client,
    conflate: Duration,
    mut view: impl View<Event = Live>,
) -> anyhow::Result<()> {
    let quotes = QuoteSource { symbols: symbols(), conflate: Some(conflate) };
    let (to, from) = mpsc::channel(QUEUE);
    let (to_quotes, from_quotes) = mpsc::channel(QUEUE);
    let (to_bars, from_bars) = mpsc::channel(QUEUE);
    let followed = async {
        tokio::join!(
            follow(client, quotes, true, to_quotes),
            follow(client, bars(true), true, to_bars),
            forward(from_quotes, to.clone(), Live::Quotes),
            forward(from_bars, to.clone(), Live::Bars),
        );
        std::future::pending().await
    };
    let shown = tokio::select! {
        shown = show(&mut view, from) => shown,
        never = followed => never,
    };
    shown.and(view.finish())
}

async fn forward<A>(
    mut from: Receiver<Heard<A>>,
    to: Sender<Heard<Live>>,
    live: impl Fn(A) -> Live,
) {
    while let Some(heard) = from.recv().await {
        let heard = match heard {
            Heard::Event(event) => Heard::Event(live(event)),
            Heard::Lost { error, retry_in } => Heard::Lost { error, retry_in },
            Heard::Back => Heard::Back,
            Heard::Ended(error) => Heard::Ended(error),
        };
        if to.send(heard).await.is_err() {
            return;
        }
    }
}

impl Says for Live {
    fn line(&self) -> Option<String> {
        match self {
            Self::Quotes(event) => event.line(),
            // The other stream says the same of the feed, and forming bars are many.
            Self::Bars(event) => match &event.event {
                Some(Event::Bar(SeriesBar { bar: Some(bar), .. })) if bar.revision > 0 => {
                    event.line()
                }
                Some(Event::Gap(_)) => event.line(),
                Some(_) | None => None,
            },
        }
    }

    fn json(&self) -> serde_json::Result<String> {
        match self {
            Self::Quotes(event) => event.json(),
            Self::Bars(event) => event.json(),
        }
    }
}

/// Quotes above bars.
#[derive(Debug)]
struct LiveBoard {
    quotes: QuoteBoard,
    bars: BarBoard,
}

impl Board for LiveBoard {
    type Event = Live;

    fn hear(&mut self, heard: &Heard<Live>) {
        match heard {
            Heard::Event(Live::Quotes(event)) => self.quotes.take(event),
            Heard::Event(Live::Bars(event)) => self.bars.take(event),
            // Both are in this process: they end together.
            Heard::Lost { .. } | Heard::Back | Heard::Ended(_) => {}
        }
    }

    fn lines(&self, height: usize) -> Vec<String> {
        let mut lines = self.quotes.lines(QUOTE_LINES);
        lines.extend(self.bars.lines(height.saturating_sub(lines.len()).min(LONGEST)));
        lines
    }
}
