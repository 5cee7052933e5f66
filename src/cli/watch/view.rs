//! How what is heard is shown: as lines, or as a table that is drawn again and again.

use std::io::{self, Write as _};
use std::time::Duration;

use humantime::format_duration;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};

use super::super::failure::CallError;
use super::super::output::Output;
use super::follow::Heard;
use super::screen::Screen;

/// How often a table is drawn at most.
const REDRAW: Duration = Duration::from_millis(100);
/// Most that is taken in between two looks at the clock.
const BATCH: usize = 256;

/// Shows what is heard.
pub(in crate::cli) trait View {
    /// What the server says.
    type Event;

    /// Takes something in.
    fn hear(&mut self, heard: &Heard<Self::Event>) -> anyhow::Result<()>;

    /// Nothing more is there for now.
    fn settle(&mut self) -> anyhow::Result<()>;

    /// Some time went by.
    fn tick(&mut self) -> anyhow::Result<()>;

    /// Shows what is not shown yet.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// Shows everything that is heard until the end, which is an error. May be dropped at any time:
/// then [`View::finish`] is due.
pub(in crate::cli) async fn show<V: View>(
    view: &mut V,
    mut from: Receiver<Heard<V::Event>>,
) -> anyhow::Result<()> {
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            _ = ticks.tick() => view.tick()?,
            count = from.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return Ok(());
                }
                for heard in batch.drain(..) {
                    view.hear(&heard)?;
                    if let Heard::Ended(error) = heard {
                        return Err(error.into());
                    }
                }
                view.settle()?;
            }
        }
    }
}

/// Something that has a text for people and one for programs.
pub(in crate::cli) trait Says {
    /// One line; nothing for what only says that all is well.
    fn line(&self) -> Option<String>;

    /// One JSON object.
    fn json(&self) -> serde_json::Result<String>;
}

/// A line an event.
#[derive(Debug)]
pub(in crate::cli) struct Lines<E> {
    output: Output,
    json: bool,
    said: std::marker::PhantomData<fn(E)>,
}

impl<E> Lines<E> {
    /// On stdout, as JSON or as text.
    pub(in crate::cli) fn new(json: bool) -> Self {
        Self { output: Output::stdout(), json, said: std::marker::PhantomData }
    }
}

impl<E: Says> View for Lines<E> {
    type Event = E;

    fn hear(&mut self, heard: &Heard<E>) -> anyhow::Result<()> {
        let line = match heard {
            Heard::Event(event) if self.json => Some(event.json()?),
            Heard::Event(event) => event.line(),
            Heard::Lost { error, retry_in } if self.json => {
                Some(serde_json::to_string(&Connection::Disconnected {
                    error,
                    retry_in: format_duration(*retry_in).to_string(),
                })?)
            }
            Heard::Back if self.json => Some(serde_json::to_string(&Connection::Reconnected)?),
            Heard::Lost { error, retry_in } => {
                remark(&lost(error, *retry_in));
                None
            }
            Heard::Back => {
                remark("connected again");
                None
            }
            Heard::Ended(_) => None,
        };
        line.map_or(Ok(()), |line| self.output.line(line))
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.output.flush()
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.output.flush()
    }
}

/// What happens to the connection, for programs.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Connection<'a> {
    Disconnected { error: &'a CallError, retry_in: String },
    Reconnected,
}

/// What became of the stream, in a line.
pub(super) fn lost(error: &CallError, retry_in: Duration) -> String {
    let millis = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
    let pause = format_duration(Duration::from_millis(millis));
    format!("lost the server: {}; trying again in {pause}", error.brief())
}

/// Says something on stderr.
fn remark(text: &str) {
    // Where stderr is closed there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "{text}");
}

/// What a table shows.
pub(in crate::cli) trait Board {
    /// What the server says.
    type Event;

    /// Takes something in.
    fn hear(&mut self, heard: &Heard<Self::Event>);

    /// Its lines, about `height` at most.
    fn lines(&self, height: usize) -> Vec<String>;
}

/// A table that is drawn in place.
#[derive(Debug)]
pub(in crate::cli) struct TableView<B> {
    board: B,
    screen: Screen,
    changed: bool,
}

impl<B: Board> TableView<B> {
    /// Nothing drawn yet.
    pub(in crate::cli) fn new(board: B) -> Self {
        Self { board, screen: Screen::stdout(), changed: true }
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.changed) {
            let lines = self.board.lines(self.screen.height());
            self.screen.draw(&lines)?;
        }
        Ok(())
    }
}

impl<B: Board> View for TableView<B> {
    type Event = B::Event;

    fn hear(&mut self, heard: &Heard<B::Event>) -> anyhow::Result<()> {
        self.board.hear(heard);
        self.changed = true;
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.draw()
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.draw()?;
        self.screen.restore()
    }
}
