//! A part of the terminal that is drawn again in place.

use std::fmt::Write as _;
use std::io::Write as _;

use console::{Term, truncate_str};

use super::super::output::broken;

/// To the end of the line, and to the end of the screen.
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";
/// Everything, and the cursor at the top.
const CLEAR_ALL: &str = "\u{1b}[2J\u{1b}[H";

/// The lower part of the terminal on stdout, from where the cursor was. The cursor is hidden while
/// something is drawn; what was drawn last stays.
#[derive(Debug)]
pub(super) struct Screen {
    term: Term,
    drawn: usize,
    size: (u16, u16),
    hidden: bool,
}

impl Screen {
    /// Nothing drawn yet.
    pub(super) fn stdout() -> Self {
        let term = Term::stdout();
        let size = term.size();
        Self { term, drawn: 0, size, hidden: false }
    }

    /// How many lines fit.
    pub(super) fn height(&self) -> usize {
        usize::from(self.term.size().0).saturating_sub(1).max(1)
    }

    /// Draws `lines` over what was drawn before; what does not fit is cut off.
    pub(super) fn draw(&mut self, lines: &[String]) -> anyhow::Result<()> {
        if !self.hidden {
            self.term.hide_cursor().map_err(broken)?;
            self.hidden = true;
        }
        let size = self.term.size();
        let resized = std::mem::replace(&mut self.size, size) != size;
        let fitting = lines.get(..self.height()).unwrap_or(lines);
        // Lines that wrapped differently cannot be counted any more.
        let over = if resized { None } else { Some(self.drawn) };
        let text = frame(over, fitting, usize::from(size.1));
        self.drawn = fitting.len();
        self.term.write_all(text.as_bytes()).and_then(|()| self.term.flush()).map_err(broken)
    }

    /// Shows the cursor again, below what was drawn.
    pub(super) fn restore(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.hidden) {
            self.term.show_cursor().map_err(broken)?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to restore.
        let _gone = self.restore();
    }
}

/// What draws `lines` over so many others, or on an empty screen; no line is wider than `width`.
fn frame(over: Option<usize>, lines: &[String], width: usize) -> String {
    let mut text = match over {
        Some(0) => String::new(),
        Some(drawn) => format!("\u{1b}[{drawn}A\r"),
        None => CLEAR_ALL.to_owned(),
    };
    for line in lines {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "{}{CLEAR_LINE}", truncate_str(line, width, "…"));
    }
    text + CLEAR_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before_and_no_line_wraps() {
        let lines = ["short".to_owned(), "a line that is too long".to_owned()];
        assert_eq!(frame(Some(0), &lines[..1], 10), "short\u{1b}[K\n\u{1b}[J");
        let again = frame(Some(3), &lines, 10);
        assert_eq!(again, "\u{1b}[3A\rshort\u{1b}[K\na line th…\u{1b}[K\n\u{1b}[J");
        assert!(frame(None, &lines, 10).starts_with("\u{1b}[2J\u{1b}[H"));
    }
}
