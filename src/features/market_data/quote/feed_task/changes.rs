//! What the bar manager decided, on its way to the writer.

use jiff::Timestamp;

use super::FeedTask;
use super::fetch::{self, Fetched};
use crate::domain::ohlcv::services::{BarChange, BarManager, RepairedBar, Seed};
use crate::domain::ohlcv::{Bar, BarRange};
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::quote::hub::LiveChange;
use crate::features::market_data::quote::job::{Decided, Job};

impl FeedTask {
    /// Closes what is due and hands on all that was decided.
    pub(super) async fn advance(&mut self) {
        self.manager.advance(Timestamp::now(), &mut self.changes);
        self.hand_on().await;
    }

    /// Hands what was decided to the writer, in order.
    pub(super) async fn hand_on(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        let mut decided = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            match change {
                BarChange::Closed { series, bar } => {
                    decided.push(Decided::Bar { series, bar, old: None });
                }
                BarChange::Revised { series, old, bar } => {
                    decided.push(Decided::Bar { series, bar, old: Some(old) });
                }
                BarChange::IntervalClosed { series, close_time } => {
                    decided.push(Decided::Live(LiveChange::IntervalClosed(series, close_time)));
                }
                BarChange::Refetch { series, range } => {
                    self.repair(series, range);
                }
                BarChange::Reroll { series, range, until } => {
                    decided.push(Decided::Reroll { series, range, until });
                }
                BarChange::FormingChanged { symbol } => {
                    if let Some(symbol) = self.names.get(&symbol) {
                        self.uncopied.insert(symbol.clone());
                    }
                }
            }
        }
        if !decided.is_empty() {
            self.write(Job::Decided(decided)).await;
        }
    }

    /// The feed was away: streams are told in the order of bars.
    pub(super) async fn gap(&mut self, symbol: Symbol, from: Timestamp, to: Timestamp) {
        let gap = Decided::Live(LiveChange::Gap(symbol, from, to));
        self.write(Job::Decided(vec![gap])).await;
    }

    /// Has bars fetched again, and remembers that until they are.
    pub(super) fn repair(&mut self, series: Series, range: BarRange) {
        if let Some(followed) = self.symbols.get_mut(&series.symbol) {
            followed.repairs.push((series.interval, range));
            followed.repairs_changed = true;
        }
        fetch::repair(&self.parts, series, range, self.fetches.clone());
    }

    /// Takes in what was fetched in the background.
    pub(super) async fn take_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Resolved(symbol, outcome) => self.resolved(symbol, outcome).await,
            Fetched::Retry(symbol) => {
                if let Some(followed) = self.symbols.get_mut(&symbol) {
                    followed.progress = super::followed::Progress::Waiting;
                    self.begin(&symbol);
                }
            }
            Fetched::Seeded(symbol, id, minutes) => {
                let Some(followed) = self.symbols.get(&symbol).filter(|each| each.id == Some(id))
                else {
                    return;
                };
                self.manager.seed(id, &Seed { minutes: &minutes, days: &followed.days });
            }
            Fetched::Repaired { series, range, bars, done } => {
                if let Some(id) = self.manager.id_of(&series.symbol) {
                    self.manager.apply_repair(id, series.interval, &bars, &mut self.changes);
                }
                if let Some(followed) = self.symbols.get_mut(&series.symbol).filter(|_| done) {
                    followed.repairs.retain(|repair| *repair != (series.interval, range));
                    followed.repairs_changed = true;
                }
            }
            Fetched::Rerolled { series, range, until, values } => {
                let Some(id) = self.manager.id_of(&series.symbol) else { return };
                let open_time = range.open();
                if until >= range.close() {
                    let bar = RepairedBar { open_time, values, stored: None };
                    self.manager.apply_repair(id, series.interval, &[bar], &mut self.changes);
                } else {
                    self.manager.replace_head(id, series.interval, open_time, until, values);
                }
            }
        }
        self.advance().await;
    }
}

/// The forming bars of a symbol.
pub(super) fn forming_bars(manager: &BarManager, id: SymbolId) -> Vec<(Interval, Bar)> {
    let forming = |interval| Some((interval, manager.forming(id, interval)?));
    Interval::ALL.into_iter().filter_map(forming).collect()
}
