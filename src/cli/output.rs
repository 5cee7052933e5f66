//! Writing to stdout: lines, tables, JSON. Colours and borders on a terminal only.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets,
};
use serde::Serialize;

use super::failure::ClosedPipe;

/// Stdout, buffered. A reader that went away is [`ClosedPipe`]. [`Output::finish`] writes what is
/// left, and says whether that worked.
#[derive(Debug)]
pub(super) struct Output(BufWriter<Stdout>);

impl Output {
    /// Nothing written yet.
    pub(super) fn stdout() -> Self {
        Self(BufWriter::new(io::stdout()))
    }

    /// Writes `text` and a line break.
    pub(super) fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        writeln!(self.0, "{text}").map_err(broken)
    }

    /// Writes `text`.
    pub(super) fn text(&mut self, text: impl Display) -> anyhow::Result<()> {
        write!(self.0, "{text}").map_err(broken)
    }

    /// Writes `value` as indented JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer_pretty(&mut self.0, value).map_err(|error| broken(error.into()))?;
        self.line("")
    }

    /// Writes `rows` under `header`.
    pub(super) fn table(&mut self, table: &Rows) -> anyhow::Result<()> {
        table.lines().try_for_each(|line| self.line(line))
    }

    /// Writes what is buffered.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.0.flush().map_err(broken)
    }

    /// Writes what is buffered, and goes on.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.0.flush().map_err(broken)
    }

    /// The bytes themselves.
    pub(super) fn writer(&mut self) -> &mut impl Write {
        &mut self.0
    }
}

/// What a failure to write to stdout means.
pub(super) fn broken(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ClosedPipe.into();
    }
    anyhow::Error::new(error).context("cannot write to stdout")
}

/// The failure to write that a failure to write CSV is.
pub(super) fn csv_error(error: csv::Error) -> io::Error {
    let text = error.to_string();
    // Anything else would be rows of unequal length, which ours are not.
    if let csv::ErrorKind::Io(error) = error.into_kind() { error } else { io::Error::other(text) }
}

/// Whether `stream` shows colours: a terminal, unless `NO_COLOR` is set.
pub(super) fn colours(stream: &impl IsTerminal) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    redraws(stream) && !unwanted
}

/// Whether what `stream` shows can be drawn over: a terminal, and no dumb one.
pub(super) fn redraws(stream: &impl IsTerminal) -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    stream.is_terminal() && !dumb
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
    /// Numbers that are mostly 0: on a terminal the column is only shown where one is not.
    Count,
}

/// Whether a number is good news, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Above zero.
    Up,
    /// Below zero.
    Down,
}

/// A table: with borders on a terminal, else columns of plain text, one row a line.
#[derive(Debug)]
pub(super) struct Rows {
    columns: &'static [(&'static str, Align)],
    rows: Vec<Row>,
}

/// The texts of a row, and which columns have a tone.
#[derive(Debug)]
struct Row {
    texts: Vec<String>,
    toned: Option<(Tone, &'static [usize])>,
}

impl Rows {
    /// No rows yet.
    pub(super) const fn new(columns: &'static [(&'static str, Align)]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row: a text for each column.
    pub(super) fn push(&mut self, row: Vec<String>) {
        self.rows.push(Row { texts: row, toned: None });
    }

    /// Adds a row of which some columns, by number, have a tone.
    pub(super) fn push_toned(
        &mut self,
        row: Vec<String>,
        tone: Option<Tone>,
        columns: &'static [usize],
    ) {
        self.rows.push(Row { texts: row, toned: tone.map(|tone| (tone, columns)) });
    }

    /// The table, line by line.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let lines: Vec<_> = self.arranged().lines().collect();
        lines.into_iter().map(|line| line.trim_end().to_owned())
    }

    fn arranged(&self) -> Table {
        let terminal = io::stdout().is_terminal();
        let mut table = Table::new();
        table.load_style(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
        let arrangement =
            if terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        table.set_content_arrangement(arrangement);
        let coloured = colours(&io::stdout());
        let heads = self.columns.iter().map(|(name, align)| {
            let cell = cell(name, *align);
            if coloured { cell.add_attribute(Attribute::Bold) } else { cell }
        });
        table.set_header(heads.collect::<Vec<_>>());
        for row in &self.rows {
            let texts = row.texts.iter().zip(self.columns).enumerate();
            let cells = texts.map(|(column, (text, (_, align)))| {
                let tone = row.toned.filter(|(_, columns)| columns.contains(&column));
                let cell = cell(text, *align);
                match tone.filter(|_| coloured) {
                    Some((Tone::Up, _)) => cell.fg(Color::Green),
                    Some((Tone::Down, _)) => cell.fg(Color::Red),
                    None => cell,
                }
            });
            table.add_row(cells.collect::<Vec<_>>());
        }
        if !terminal && let Some(first) = table.column_mut(0) {
            first.set_padding((0, 1));
        }
        for column in (0..self.columns.len()).filter(|column| terminal && self.is_idle(*column)) {
            if let Some(column) = table.column_mut(column) {
                column.set_constraint(ColumnConstraint::Hidden);
            }
        }
        table
    }

    /// Whether a column counts, and counted nothing.
    fn is_idle(&self, column: usize) -> bool {
        let counts = self.columns.get(column).is_some_and(|(_, align)| *align == Align::Count);
        counts && self.rows.iter().all(|row| row.texts.get(column).is_none_or(|text| text == "0"))
    }
}

fn cell(text: &str, align: Align) -> Cell {
    let alignment = match align {
        Align::Left => CellAlignment::Left,
        Align::Right | Align::Count => CellAlignment::Right,
    };
    Cell::new(text).set_alignment(alignment)
}
