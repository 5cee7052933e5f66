//! The writer and its database: what is decided is written some time later, in order.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::market::{Calendar, Market};
use crate::domain::ohlcv::services::alike;
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::shared::{Interval, Series};
use crate::domain::symbol::TradingSession;
use crate::features::market_data::quote::feed_task::Rerolled;
use crate::features::market_data::quote::job::{Decided, Job};

/// What outlives a crash, and what waits to be written there.
pub(super) struct Store {
    session: Arc<TradingSession>,
    calendar: Rc<Calendar>,
    pub(super) bars: BTreeMap<(Interval, Timestamp), StoredBar>,
    pub(super) kept: Option<Bytes>,
    pub(super) jobs: VecDeque<Job>,
    /// How many jobs were ever written.
    pub(super) written: usize,
    pub(super) queued: usize,
}

impl Store {
    pub(super) fn new(market: &Market) -> Self {
        Self {
            session: Arc::clone(&market.session),
            calendar: Rc::clone(&market.calendar),
            bars: BTreeMap::new(),
            kept: None,
            jobs: VecDeque::new(),
            written: 0,
            queued: 0,
        }
    }

    pub(super) fn push(&mut self, job: Job) {
        self.queued += 1;
        self.jobs.push_back(job);
    }

    /// Writes up to `count` jobs as one batch; `now` is the provider's time.
    pub(super) fn write(&mut self, count: usize, now: Timestamp) -> Vec<Rerolled> {
        let mut rerolled = Vec::new();
        let mut batch: Vec<Decided> = Vec::new();
        for _ in 0..count {
            let Some(job) = self.jobs.pop_front() else { break };
            self.written += 1;
            if let Job::Decided(decided) = job {
                batch.extend(decided);
                continue;
            }
            rerolled.extend(self.decided(std::mem::take(&mut batch), now));
            match job {
                Job::Keep(kept) => self.kept = kept.into_iter().next().map(|(_, bytes)| bytes),
                Job::Forming(series, bar) => {
                    let key = (series.interval, bar.open_time);
                    if self.bars.get(&key).is_none_or(|stored| bar.replaces(stored)) {
                        self.bars.insert(key, bar);
                    }
                }
                Job::Decided(_) | Job::LoggedFrom(..) | Job::Barrier(_) => {}
            }
        }
        rerolled.extend(self.decided(batch, now));
        rerolled
    }

    /// The process ended: what was not written is lost.
    pub(super) fn crash(&mut self) {
        self.jobs.clear();
        self.queued = self.written;
    }

    /// All bars first, then what is rolled up of them; as the scribe does it.
    fn decided(&mut self, decided: Vec<Decided>, now: Timestamp) -> Vec<Rerolled> {
        let mut passed_over = Vec::new();
        for each in &decided {
            let Decided::Bar { series, bar, .. } = each else { continue };
            let (interval, open) = (series.interval, bar.stored.open_time);
            assert!(bar.range.close() <= now, "{interval} {open} is closed before its time");
            assert_eq!(
                bar.range,
                self.calendar.bar_at(&self.session, interval, open),
                "{interval}"
            );
            if !self.append(interval, bar.stored) && bar.stored.source == BarSource::Repair {
                passed_over.push((interval, bar.stored));
            }
        }
        for (interval, bar) in passed_over {
            let old = self.bars.get(&(interval, bar.open_time)).copied().unwrap();
            if !alike(&old.values, &bar.values, 0.0) {
                self.append(interval, old.revised(bar.values, BarSource::Repair));
            }
        }
        let rerolls = decided.into_iter().filter_map(|each| match each {
            Decided::Reroll { series, range, until, number } => {
                Some((series, range, until, number))
            }
            Decided::Bar { .. } | Decided::Live(_) => None,
        });
        let rolled = |(series, range, until, number)| Rerolled {
            number,
            ..self.reroll(series, range, until)
        };
        rerolls.map(rolled).collect()
    }

    /// Answers whether it is stored, now or before.
    fn append(&mut self, interval: Interval, bar: StoredBar) -> bool {
        assert!(bar.is_final());
        let key = (interval, bar.open_time);
        if let Some(stored) = self.bars.get(&key).filter(|stored| !bar.replaces(stored)) {
            return *stored == bar;
        }
        self.bars.insert(key, bar);
        true
    }

    fn reroll(&self, series: Series, range: BarRange, until: Timestamp) -> Rerolled {
        let stored = self.bars.get(&(series.interval, range.open())).copied();
        let (mut total, mut from) = (None, range.open());
        let periods = !series.interval.is_intraday() && series.interval != Interval::D1;
        for interval in [Interval::D1, Interval::M1] {
            if (interval == Interval::D1 && !periods) || from >= until {
                continue;
            }
            for (_, bar) in self.bars.range((interval, from)..(interval, until)) {
                let bounds = self.calendar.bar_at(&self.session, interval, bar.open_time);
                if bar.is_final() && bounds.close() <= until {
                    total = Some(
                        total.map_or(bar.values, |total: Ohlcv| total.followed_by(&bar.values)),
                    );
                    from = bounds.close();
                }
            }
        }
        Rerolled { series, range, until, values: total, stored, number: 0 }
    }

    /// The stored bars of `interval` that open in `[from, to]`.
    pub(super) fn stretch(
        &self,
        interval: Interval,
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<StoredBar> {
        if from > to {
            return Vec::new();
        }
        self.bars.range((interval, from)..=(interval, to)).map(|(_, bar)| *bar).collect()
    }

    pub(super) fn newest_minute(&self) -> Option<StoredBar> {
        let minutes =
            self.bars.range((Interval::M1, Timestamp::MIN)..=(Interval::M1, Timestamp::MAX));
        minutes.last().map(|(_, bar)| *bar)
    }
}
