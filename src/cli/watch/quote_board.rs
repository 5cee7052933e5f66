//! A table of quotes: a row a symbol.

use super::super::output::{Align, Rows, Tone};
use super::super::quote::quote_row;
use super::follow::Heard;
use super::quote_text::{draining_line, gap_line, symbol_error_line};
use super::situation::Situation;
use super::view::Board;
use crate::proto::v1::quote_event::Event;
use crate::proto::v1::{Quote, QuoteEvent};

/// The columns of the last price, of its change and of its percentage.
const TONED: &[usize] = &[1, 2, 3];
/// Lines of a table that are no rows: borders and header.
const FRAME: usize = 4;

/// The newest quote of each symbol, and how often it came.
#[derive(Debug, Default)]
pub(in crate::cli) struct QuoteBoard {
    rows: Vec<Row>,
    situation: Situation,
    updates: u64,
    left_out: u64,
}

#[derive(Debug)]
struct Row {
    symbol: String,
    quote: Option<Quote>,
    updates: u64,
}

impl Row {
    const fn new(symbol: String) -> Self {
        Self { symbol, quote: None, updates: 0 }
    }
}

impl QuoteBoard {
    /// A row for each of `symbols`, in their order; no quote yet.
    pub(in crate::cli) fn new(symbols: &[String]) -> Self {
        let mut board = Self::default();
        for symbol in symbols {
            board.row(&symbol.to_ascii_uppercase());
        }
        board
    }

    /// The row of `symbol`, at the end where it is new.
    fn row(&mut self, symbol: &str) -> Option<&mut Row> {
        let place = self.rows.iter().position(|row| row.symbol == symbol);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row::new(symbol.to_owned()));
            self.rows.len() - 1
        });
        self.rows.get_mut(place)
    }

    /// Takes in what the server says.
    pub(in crate::cli) fn take(&mut self, event: &QuoteEvent) {
        let Some(event) = &event.event else { return };
        match event {
            Event::Quote(quote) => {
                self.updates += 1;
                if let Some(row) = self.row(&quote.symbol) {
                    row.updates += 1;
                    row.quote = Some(quote.clone());
                }
            }
            Event::Gap(gap) => {
                let count = gap.to_sequence.saturating_sub(gap.from_sequence).saturating_add(1);
                self.left_out += u64::try_from(count).unwrap_or_default();
                self.situation.remark(gap_line(gap));
            }
            Event::Feed(feed) => self.situation.feed(feed),
            Event::SymbolError(error) => self.situation.remark(symbol_error_line(error)),
            Event::Draining(draining) => self.situation.remark(draining_line(draining)),
            Event::Heartbeat(_) => {}
        }
    }

    fn table(&self, most: usize) -> Rows {
        use Align::{Left, Right};
        let mut rows = Rows::new(&[
            ("symbol", Left),
            ("last", Right),
            ("change", Right),
            ("%", Right),
            ("bid", Right),
            ("ask", Right),
            ("volume", Right),
            ("time", Left),
            ("delay", Right),
            ("updates", Right),
        ]);
        for row in self.rows.iter().take(most) {
            match &row.quote {
                Some(quote) => {
                    let mut cells = quote_row(quote);
                    cells.push(row.updates.to_string());
                    rows.push_toned(cells, tone(quote), TONED);
                }
                None => rows.push(vec![row.symbol.clone(), "waiting".to_owned()]),
            }
        }
        rows
    }
}

impl Board for QuoteBoard {
    type Event = QuoteEvent;

    fn hear(&mut self, heard: &Heard<QuoteEvent>) {
        self.situation.hear(heard);
        if let Heard::Event(event) = heard {
            self.take(event);
        }
    }

    fn lines(&self, height: usize) -> Vec<String> {
        let updates = self.updates;
        let counts = match self.left_out {
            0 => format!("{updates} updates"),
            left_out => format!("{updates} updates, {left_out} left out"),
        };
        let remarks = self.situation.remarks();
        let room = height.saturating_sub(FRAME + 2 + remarks.len()).max(1);
        let mut lines = vec![self.situation.head(&counts)];
        lines.extend(self.table(room).lines());
        if self.rows.len() > room {
            lines.push(format!("and {} symbols more", self.rows.len() - room));
        }
        lines.extend(remarks);
        lines
    }
}

fn tone(quote: &Quote) -> Option<Tone> {
    let change = quote.change.or(quote.change_percent).filter(|change| *change != 0.0)?;
    Some(if change > 0.0 { Tone::Up } else { Tone::Down })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{ConnectionState, FeedEvent, QuoteGap};

    fn event(event: Event) -> Heard<QuoteEvent> {
        Heard::Event(QuoteEvent { event: Some(event) })
    }

    fn quote(symbol: &str, last_price: f64) -> Heard<QuoteEvent> {
        let symbol = symbol.to_owned();
        event(Event::Quote(Quote { symbol, last_price, ..Quote::default() }))
    }

    #[test]
    fn a_symbol_keeps_its_row_and_shows_its_newest_quote() {
        let mut board = QuoteBoard::new(&["cme:es".to_owned(), "NYSE:IBM".to_owned()]);
        for (symbol, price) in [("NYSE:IBM", 200.5), ("CME:ES", 1.25), ("CME:ES", 1.5)] {
            board.hear(&quote(symbol, price));
        }
        let lines = board.lines(40);
        let place = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
        assert!(place("CME:ES") < place("NYSE:IBM"), "{lines:#?}");
        assert!(lines[place("CME:ES")].contains("1.5") && lines[place("CME:ES")].ends_with('2'));
        assert!(lines[0].contains("3 updates"), "{lines:#?}");
    }

    #[test]
    fn the_feed_is_above_the_table_and_what_happened_below_it() {
        let mut board = QuoteBoard::new(&["CME:ES".to_owned()]);
        let state = ConnectionState::Reconnecting.into();
        board.hear(&event(Event::Feed(FeedEvent { state, error: "cut".to_owned() })));
        let (from_sequence, to_sequence) = (5, 7);
        let symbol = "CME:ES".to_owned();
        board.hear(&event(Event::Gap(QuoteGap { symbol, epoch: 1, from_sequence, to_sequence })));
        let lines = board.lines(40);
        assert_eq!(lines[0], "feed reconnecting: cut · 0 updates, 3 left out");
        assert!(lines.last().unwrap().contains("updates 5 to 7"), "{lines:#?}");
    }

    #[test]
    fn rows_that_do_not_fit_are_counted() {
        let symbols: Vec<String> = (0..50).map(|number| format!("A:S{number}")).collect();
        let lines = QuoteBoard::new(&symbols).lines(20);
        assert!(lines.len() <= 20, "{}", lines.len());
        assert!(lines.last().unwrap().ends_with("symbols more"), "{lines:#?}");
    }
}
