//! What the bar manager decided, on its way to the writer.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::FeedTask;
use super::fetch::{Fetched, Rerolled};
use super::followed::Progress;
use crate::domain::ohlcv::services::{BarChange, BarManager, RepairedBar, Seed};
use crate::domain::ohlcv::{Bar, BarRange, BarSource};
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::quote::job::{Decided, Job};
use crate::features::market_data::quote::ring::LiveChange;

impl FeedTask {
    /// Closes what is due and hands on all that was decided.
    pub(super) async fn advance(&mut self) {
        self.manager.advance(Timestamp::now(), &mut self.changes);
        self.hand_on().await;
    }

    /// Hands what was decided to the writer, in order. What is owed from here on is written down
    /// first: a crash in between may leave bars in doubt, and never forgets the doubt.
    pub(super) async fn hand_on(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        let (mut decided, mut refetches) = (Vec::new(), Vec::new());
        let mut owing = BTreeSet::new();
        for change in std::mem::take(&mut self.changes) {
            match change {
                BarChange::Closed { series, bar } => {
                    decided.push(Decided::Bar { series, bar, old: None });
                }
                BarChange::Revised { series, old, bar } => {
                    let followed = self.symbols.get_mut(&series.symbol);
                    if let Some(followed) =
                        followed.filter(|_| bar.stored.source == BarSource::Ticks)
                    {
                        followed.owed.corrected(series.interval, bar.range.open());
                    }
                    decided.push(Decided::Bar { series, bar, old: Some(old) });
                }
                BarChange::IntervalClosed { series, close_time } => {
                    if self.is_heard(&series.symbol) || is_of(decided.last(), &series) {
                        decided.push(Decided::Live(LiveChange::IntervalClosed(series, close_time)));
                    }
                }
                BarChange::Refetch { series, range } => {
                    let followed = self.symbols.get_mut(&series.symbol);
                    if followed.is_some_and(|followed| followed.owed.refetch(&series, range)) {
                        owing.insert(series.symbol.clone());
                        refetches.push((series, range));
                    }
                }
                BarChange::Reroll { series, range, until } => {
                    self.rerolls += 1;
                    let (followed, number) = (self.symbols.get_mut(&series.symbol), self.rerolls);
                    if followed.is_some_and(|each| each.owed.reroll(&series, range, number)) {
                        owing.insert(series.symbol.clone());
                        decided.push(Decided::Reroll { series, range, until, number });
                    }
                }
                BarChange::FormingChanged { symbol } => {
                    if let Some(symbol) = self.names.get(&symbol) {
                        self.uncopied.insert(symbol.clone());
                    }
                }
            }
        }
        self.write_debts(&owing).await;
        if !decided.is_empty() {
            let bars = decided.iter().filter(|each| matches!(each, Decided::Bar { .. })).count();
            self.meter.decided(bars);
            self.write(Job::Decided(decided)).await;
        }
        for (series, range) in refetches {
            self.repairs.ask(series, range);
        }
    }

    /// Whether a time without trades of `symbol` means that there were none.
    fn is_heard(&self, symbol: &Symbol) -> bool {
        self.symbols.get(symbol).is_some_and(|followed| followed.cut_at.is_none())
    }

    /// Writes down what is owed, with the bars as they were kept last: those of now are not
    /// stored yet.
    async fn write_debts(&mut self, owing: &BTreeSet<Symbol>) {
        let kept = owing.iter().filter_map(|symbol| {
            let snapshot = self.symbols.get(symbol)?.kept.clone()?;
            self.kept(snapshot)
        });
        let kept: Vec<_> = kept.collect();
        if !kept.is_empty() {
            self.write(Job::Keep(kept)).await;
        }
    }

    /// The feed was away: streams are told in the order of bars.
    pub(super) async fn gap(&mut self, symbol: Symbol, from: Timestamp, to: Timestamp) {
        let gap = Decided::Live(LiveChange::Gap(symbol, from, to));
        self.write(Job::Decided(vec![gap])).await;
    }

    /// Takes in what was fetched in the background.
    pub(super) async fn take_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Resolved(lookup, outcome) => {
                self.resolved(lookup, outcome.map(|resolved| *resolved)).await;
            }
            Fetched::Retry(lookup) => {
                if let Some(followed) = self.symbols.get_mut(&lookup.symbol)
                    && followed.awaits(&lookup)
                {
                    followed.progress = Progress::Waiting;
                    self.begin(&lookup.symbol);
                }
            }
            Fetched::Seeded { symbol, id, minutes, days } => {
                let followed = self.symbols.get_mut(&symbol).filter(|each| each.id == Some(id));
                let Some(followed) = followed else { return };
                self.manager.seed(id, &Seed { minutes: &minutes, days: &days.bars });
                followed.days = Some(days);
            }
            Fetched::Repaired { series, range, bars, answered, done } => {
                // What trades have changed so far, the answer may not have.
                self.advance().await;
                if let Some(id) = self.manager.id_of(&series.symbol) {
                    self.manager.apply_repair(id, series.interval, &bars, &mut self.changes);
                }
                self.advance().await;
                if let Some(answered) = answered {
                    self.note_answered(series.clone(), answered).await;
                }
                self.refetched(series, range, done);
            }
        }
        self.advance().await;
    }

    /// What came of it is on its way to the writer: only now is it owed no longer.
    fn refetched(&mut self, series: Series, range: BarRange, done: bool) {
        if let Some(id) = self.manager.id_of(&series.symbol)
            && done
            && series.interval == Interval::M1
        {
            self.manager.refetched(id, range);
        }
        let followed = self.symbols.get_mut(&series.symbol).filter(|_| done);
        if followed.is_some_and(|followed| followed.owed.refetched(series.interval, range)) {
            self.changes.push(BarChange::Refetch { series, range });
        }
    }

    /// Takes in what a bar's children come to.
    pub(super) async fn take_rerolled(&mut self, rerolled: Rerolled) {
        let Rerolled { series, range, until, values, stored, number } = rerolled;
        let interval = series.interval;
        let Some(id) = self.manager.id_of(&series.symbol) else { return };
        let owed = self.symbols.get(&series.symbol).map(|followed| &followed.owed);
        let is_last = owed.is_some_and(|owed| owed.is_last_reroll(interval, range, number));
        match values.filter(|_| is_last) {
            Some(values)
                if until >= range.close() && !self.manager.takes_head(id, interval, range) =>
            {
                let bar = RepairedBar { open_time: range.open(), values, stored };
                self.manager.apply_repair(id, interval, &[bar], &mut self.changes);
            }
            Some(values) => {
                let head = (range, until);
                self.manager.replace_head(id, interval, head, values, &mut self.changes);
            }
            None => {}
        }
        self.advance().await;
        if let Some(followed) = self.symbols.get_mut(&series.symbol) {
            followed.owed.rerolled(interval, range, number);
        }
    }
}

/// The forming bars of a symbol.
pub(super) fn forming_bars(manager: &BarManager, id: SymbolId) -> Vec<(Interval, Bar)> {
    let forming = |interval| Some((interval, manager.forming(id, interval)?));
    Interval::ALL.into_iter().filter_map(forming).collect()
}

/// Whether what was decided last is a bar of `series`.
fn is_of(decided: Option<&Decided>, series: &Series) -> bool {
    matches!(decided, Some(Decided::Bar { series: of, .. }) if of == series)
}
