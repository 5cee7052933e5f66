//! What makes a stream of bars resumable: the cursor that is kept, and bars that come twice.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::super::target::Target;
use super::follow::Heard;
use super::view::View;
use crate::proto::v1::bar_event::Event;
use crate::proto::v1::{BarEvent, SeriesBar};

/// Bars that are remembered.
const REMEMBERED: usize = 16_384;
/// How often the cursor is written at most.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Longest cursor that is read from a file, in bytes.
const LONGEST_CURSOR: u64 = 64 * 1024;

/// A file that holds the cursor of the last event that was shown.
#[derive(Clone, Debug)]
pub(super) struct CursorFile(PathBuf);

impl CursorFile {
    /// At `path`, whether it is there or not.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The cursor in it; nothing where there is no file yet, or nothing in it.
    pub(super) fn read(&self) -> anyhow::Result<Option<String>> {
        let named = || format!("cannot read a cursor from `{}`", self.0.display());
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(named)?,
        };
        let mut text = String::new();
        file.take(LONGEST_CURSOR).read_to_string(&mut text).with_context(named)?;
        let cursor = text.trim();
        ensure!(!cursor.contains(char::is_whitespace), "{}: it holds something else", named());
        Ok((!cursor.is_empty()).then(|| cursor.to_owned()))
    }

    /// Puts `cursor` in it. Who reads it meanwhile finds the old one or this one.
    fn write(&self, cursor: &str) -> anyhow::Result<()> {
        let written = Target::open(&self.0).and_then(|mut target| {
            writeln!(target.file(), "{cursor}")?;
            target.finish()
        });
        written.with_context(|| format!("cannot write the cursor to `{}`", self.0.display()))
    }
}

/// Leaves out bars that were shown already, and keeps the cursor of what was.
#[derive(Debug)]
pub(super) struct Resuming<V> {
    view: V,
    seen: Seen,
    file: Option<CursorFile>,
    unsaved: Option<String>,
    saved_at: Option<Instant>,
}

impl<V> Resuming<V> {
    /// Shows in `view`; keeps the cursor in `file`.
    pub(super) fn new(view: V, file: Option<CursorFile>) -> Self {
        Self { view, seen: Seen::default(), file, unsaved: None, saved_at: None }
    }

    fn save(&mut self) -> anyhow::Result<()> {
        if let Some((file, cursor)) = self.file.as_ref().zip(self.unsaved.take()) {
            file.write(&cursor)?;
            self.saved_at = Some(Instant::now());
        }
        Ok(())
    }
}

impl<V: View<Event = BarEvent>> View for Resuming<V> {
    type Event = BarEvent;

    fn hear(&mut self, heard: &Heard<BarEvent>) -> anyhow::Result<()> {
        let Heard::Event(BarEvent { event, cursor }) = heard else { return self.view.hear(heard) };
        let again = matches!(event, Some(Event::Bar(bar)) if !self.seen.is_news(bar));
        if !again {
            self.view.hear(heard)?;
        }
        if self.file.is_some() && !cursor.is_empty() {
            self.unsaved = Some(cursor.clone());
        }
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.view.settle()
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.view.tick()?;
        if self.saved_at.is_none_or(|at| at.elapsed() >= SAVE_EVERY) { self.save() } else { Ok(()) }
    }

    /// The cursor is written only if what it stands behind was.
    fn finish(&mut self) -> anyhow::Result<()> {
        self.view.finish()?;
        self.save()
    }
}

/// The bars that were shown last, and their revisions.
#[derive(Debug, Default)]
struct Seen {
    revisions: HashMap<Key, i32>,
    order: VecDeque<Key>,
}

/// Symbol, interval, and open time in seconds and nanoseconds.
type Key = (String, i32, i64, i32);

impl Seen {
    /// Whether a bar was not shown yet in this revision or a later one. One that is forming always
    /// is news, unless it has closed.
    fn is_news(&mut self, series: &SeriesBar) -> bool {
        let Some((bar, time)) = series.bar.as_ref().and_then(|bar| Some((bar, bar.open_time?)))
        else {
            return true;
        };
        let key = (series.symbol.clone(), series.interval, time.seconds, time.nanos);
        if self.revisions.get(&key).is_some_and(|shown| *shown >= bar.revision) {
            return false;
        }
        if bar.revision > 0 && self.revisions.insert(key.clone(), bar.revision).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.revisions.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Bar;
    use prost_types::Timestamp;

    fn bar(minute: i64, revision: i32) -> SeriesBar {
        let open_time = Some(Timestamp { seconds: minute * 60, nanos: 0 });
        let bar = Some(Bar { open_time, revision, ..Bar::default() });
        SeriesBar { symbol: "CME:ES".to_owned(), interval: 1, bar }
    }

    #[test]
    fn a_bar_is_shown_once_in_each_revision_and_in_order() {
        let mut seen = Seen::default();
        let news = [(1, 0), (1, 0), (1, 1), (1, 1), (1, 0), (1, 2), (1, 1), (2, 1)]
            .map(|(minute, revision)| seen.is_news(&bar(minute, revision)));
        assert_eq!(news, [true, true, true, false, false, true, false, true]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        for minute in 0..40_000 {
            assert!(seen.is_news(&bar(minute, 1)));
        }
        assert_eq!((seen.revisions.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!seen.is_news(&bar(39_999, 1)));
    }

    #[test]
    fn a_cursor_survives_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = CursorFile::new(folder.path().join("cursor"));
        assert_eq!(file.read().unwrap(), None);
        file.write("abc").unwrap();
        file.write("def").unwrap();
        assert_eq!(file.read().unwrap().as_deref(), Some("def"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(file.path(), "no cursor at all").unwrap();
        assert!(file.read().unwrap_err().to_string().contains("something else"));
    }
}
