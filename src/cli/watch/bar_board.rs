//! A table of bars: those that are forming, then those that closed, the latest first.

use std::collections::{BTreeMap, VecDeque};

use super::super::names::{bar_source_text, bar_state_text, interval_text};
use super::super::output::{Align, Rows, Tone};
use super::super::times::show_minute;
use super::bar_text::gap_line;
use super::follow::Heard;
use super::quote_text::{draining_line, symbol_error_line};
use super::situation::Situation;
use super::view::Board;
use crate::proto::v1::bar_event::Event;
use crate::proto::v1::{Bar, BarEvent, BarState, SeriesBar};

/// Closed bars that are kept.
const KEPT: usize = 200;
/// The columns of the prices.
const TONED: &[usize] = &[3, 4, 5, 6];
/// Lines of a table that are no rows: borders and header.
const FRAME: usize = 4;

/// The newest bars.
#[derive(Debug, Default)]
pub(in crate::cli) struct BarBoard {
    /// By symbol and interval.
    forming: BTreeMap<(String, i32), Bar>,
    /// The latest first.
    closed: VecDeque<SeriesBar>,
    situation: Situation,
    count: u64,
    revised: u64,
}

impl BarBoard {
    /// Takes in what the server says.
    pub(in crate::cli) fn take(&mut self, event: &BarEvent) {
        let Some(event) = &event.event else { return };
        match event {
            Event::Bar(series) => {
                if let Some(bar) = &series.bar {
                    self.bar(series, bar);
                }
            }
            Event::Gap(gap) => self.situation.remark(gap_line(gap)),
            Event::Feed(feed) => self.situation.feed(feed),
            Event::SymbolError(error) => self.situation.remark(symbol_error_line(error)),
            Event::Draining(draining) => self.situation.remark(draining_line(draining)),
            Event::IntervalClosed(_) | Event::Heartbeat(_) => {}
        }
    }

    fn bar(&mut self, series: &SeriesBar, bar: &Bar) {
        let key = (series.symbol.clone(), series.interval);
        if bar.state() == BarState::Forming {
            self.forming.insert(key, *bar);
            return;
        }
        if self.forming.get(&key).is_some_and(|forming| forming.open_time == bar.open_time) {
            self.forming.remove(&key);
        }
        let same = |other: &SeriesBar| {
            let open_time = other.bar.as_ref().and_then(|bar| bar.open_time);
            (&other.symbol, other.interval, open_time)
                == (&series.symbol, series.interval, bar.open_time)
        };
        self.closed.retain(|other| !same(other));
        self.closed.push_front(series.clone());
        self.closed.truncate(KEPT);
        self.count += 1;
        self.revised += u64::from(bar.state() == BarState::Revised);
    }

    fn table(&self, most: usize) -> Rows {
        use Align::{Left, Right};
        let mut rows = Rows::new(&[
            ("symbol", Left),
            ("interval", Left),
            ("opened (UTC)", Left),
            ("open", Right),
            ("high", Right),
            ("low", Right),
            ("close", Right),
            ("volume", Right),
            ("state", Left),
            ("source", Left),
        ]);
        let forming = self.forming.len().min(most.div_ceil(2));
        let growing = self.forming.iter().map(|((symbol, length), bar)| (symbol, *length, bar));
        let over = self.closed.iter();
        let over = over.filter_map(|each| Some((&each.symbol, each.interval, each.bar.as_ref()?)));
        for (symbol, length, bar) in growing.take(forming).chain(over.take(most - forming)) {
            let mut row = vec![symbol.clone(), interval_text(length).to_owned()];
            row.extend(cells(bar));
            rows.push_toned(row, tone(bar), TONED);
        }
        rows
    }
}

impl Board for BarBoard {
    type Event = BarEvent;

    fn hear(&mut self, heard: &Heard<BarEvent>) {
        self.situation.hear(heard);
        if let Heard::Event(event) = heard {
            self.take(event);
        }
    }

    fn lines(&self, height: usize) -> Vec<String> {
        let closed = self.count - self.revised;
        let counts = match self.revised {
            0 => format!("{closed} bars closed"),
            revised => format!("{closed} bars closed, {revised} revised"),
        };
        let remarks = self.situation.remarks();
        let room = height.saturating_sub(FRAME + 1 + remarks.len()).max(1);
        let mut lines = vec![self.situation.head(&counts)];
        lines.extend(self.table(room).lines());
        lines.extend(remarks);
        lines
    }
}

/// What fits beside each other on a terminal: `bars` and `--json` tell the rest.
fn cells(bar: &Bar) -> [String; 8] {
    let state = bar_state_text(bar.state);
    [
        show_minute(bar.open_time),
        bar.open.to_string(),
        bar.high.to_string(),
        bar.low.to_string(),
        bar.close.to_string(),
        bar.volume.map(|volume| volume.to_string()).unwrap_or_default(),
        if bar.revision > 1 { format!("{state} {}", bar.revision) } else { state.to_owned() },
        bar_source_text(bar.source).to_owned(),
    ]
}

fn tone(bar: &Bar) -> Option<Tone> {
    if bar.close > bar.open {
        Some(Tone::Up)
    } else if bar.close < bar.open {
        Some(Tone::Down)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;

    fn bar(interval: i32, minute: i64, state: BarState, revision: i32) -> Heard<BarEvent> {
        let open_time = Some(Timestamp { seconds: minute * 60, nanos: 0 });
        let bar = Some(Bar { open_time, revision, state: state.into(), ..Bar::default() });
        let series = SeriesBar { symbol: "CME:ES".to_owned(), interval, bar };
        Heard::Event(BarEvent { event: Some(Event::Bar(series)), cursor: String::new() })
    }

    fn rows(board: &BarBoard, height: usize) -> Vec<String> {
        board.lines(height).into_iter().filter(|line| line.contains("CME:ES")).collect()
    }

    #[test]
    fn the_bar_that_closed_last_is_first_and_replaces_itself() {
        let mut board = BarBoard::default();
        for minute in 1..=3 {
            board.hear(&bar(1, minute, BarState::Closed, 1));
        }
        board.hear(&bar(1, 2, BarState::Revised, 2));
        let rows = rows(&board, 40);
        assert_eq!(rows.len(), 3, "{rows:#?}");
        assert!(rows[0].contains(" 00:02 ") && rows[0].contains("revised 2"), "{rows:#?}");
        assert!(rows[1].contains(" 00:03 "), "{rows:#?}");
        assert_eq!(board.lines(40)[0].split(" · ").last(), Some("3 bars closed, 1 revised"));
    }

    #[test]
    fn a_forming_bar_stays_on_top_until_it_closes() {
        let mut board = BarBoard::default();
        board.hear(&bar(1, 1, BarState::Closed, 1));
        board.hear(&bar(1, 2, BarState::Forming, 0));
        assert!(rows(&board, 40)[0].contains("forming"));
        board.hear(&bar(1, 2, BarState::Closed, 1));
        let rows = rows(&board, 40);
        assert!(rows.len() == 2 && !rows.iter().any(|row| row.contains("forming")), "{rows:#?}");
    }

    #[test]
    fn the_table_is_no_higher_than_the_screen() {
        let mut board = BarBoard::default();
        for minute in 0..1_000 {
            board.hear(&bar(1, minute, BarState::Closed, 1));
            board.hear(&bar(i32::try_from(minute % 13).unwrap(), minute, BarState::Forming, 0));
        }
        assert!(board.lines(20).len() <= 20);
        assert_eq!(board.closed.len(), KEPT);
        assert!(rows(&board, 20).iter().filter(|row| row.contains("closed")).count() >= 5);
    }
}
