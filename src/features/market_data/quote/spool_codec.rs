//! Jobs as entries of the spool, and back.
//!
//! What is kept of a symbol is an entry of its own, with the symbol as its subject: the spool holds
//! the newest only. All else is JSON with a version in front.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::job::{Decided, Job};
use super::ring::LiveChange;
use super::snapshot_codec::{Range, Told, range, read_range, read_time, read_told, time, told};
use crate::domain::ohlcv::Bar;
use crate::domain::shared::{Series, Symbol};
use crate::infrastructure::spool::SpoolEntry;

/// The form that this version writes; another one is not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    job: Form,
}

/// A job whose order counts. Times are microseconds since 1970.
#[derive(Serialize, Deserialize)]
enum Form {
    Decided(Vec<DecidedForm>),
    Forming(SeriesForm, Told),
    LoggedFrom(String, i64),
}

#[derive(Serialize, Deserialize)]
enum DecidedForm {
    Bar {
        series: SeriesForm,
        range: Range,
        bar: Told,
        old: Option<Told>,
    },
    IntervalClosed(SeriesForm, i64),
    Gap(String, i64, i64),
    Reroll {
        series: SeriesForm,
        range: Range,
        until: i64,
        #[serde(default)]
        number: u64,
    },
}

/// Symbol and interval.
type SeriesForm = (String, String);

/// The entries that stand for `jobs`, in order; whoever waits at a barrier is none of them.
pub(super) fn encode<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Vec<SpoolEntry> {
    let mut entries = Vec::new();
    for job in jobs {
        let form = match job {
            Job::Decided(decided) => Form::Decided(decided.iter().filter_map(one).collect()),
            Job::Forming(of, bar) => Form::Forming(series(of), told(bar)),
            Job::LoggedFrom(symbol, from) => Form::LoggedFrom(symbol.to_string(), time(*from)),
            Job::Keep(kept) => {
                let entry = |(symbol, bytes): &(Symbol, Bytes)| SpoolEntry {
                    subject: Some(symbol.to_string()),
                    bytes: bytes.clone(),
                };
                entries.extend(kept.iter().map(entry));
                continue;
            }
            Job::Barrier(_) => continue,
        };
        // Numbers, texts and lists always have a form in JSON.
        let bytes = serde_json::to_vec(&Versioned { version: VERSION, job: form });
        let bytes = bytes.unwrap_or_default().into();
        entries.push(SpoolEntry { subject: None, bytes });
    }
    entries
}

/// The job that `entry` stands for; none where another version wrote it, or it is damaged.
pub(super) fn decode(entry: &SpoolEntry) -> Option<Job> {
    if let Some(subject) = &entry.subject {
        let symbol = Symbol::parse(subject).ok()?;
        return Some(Job::Keep(vec![(symbol, entry.bytes.clone())]));
    }
    let Versioned { version, job } = serde_json::from_slice(&entry.bytes).ok()?;
    if version != VERSION {
        return None;
    }
    Some(match job {
        Form::Decided(decided) => {
            Job::Decided(decided.into_iter().map(read_one).collect::<Option<_>>()?)
        }
        Form::Forming(of, bar) => Job::Forming(read_series(&of)?, read_told(bar)?),
        Form::LoggedFrom(symbol, from) => {
            Job::LoggedFrom(Symbol::parse(&symbol).ok()?, read_time(from))
        }
    })
}

fn one(decided: &Decided) -> Option<DecidedForm> {
    Some(match decided {
        Decided::Bar { series: of, bar, old } => DecidedForm::Bar {
            series: series(of),
            range: range(bar.range),
            bar: told(&bar.stored),
            old: old.as_ref().map(told),
        },
        Decided::Live(LiveChange::IntervalClosed(of, at)) => {
            DecidedForm::IntervalClosed(series(of), time(*at))
        }
        Decided::Live(LiveChange::Gap(symbol, from, to)) => {
            DecidedForm::Gap(symbol.to_string(), time(*from), time(*to))
        }
        // It is in the log, and told from there.
        Decided::Live(LiveChange::Stored(..)) => return None,
        Decided::Reroll { series: of, range: bar, until, number } => DecidedForm::Reroll {
            series: series(of),
            range: range(*bar),
            until: time(*until),
            number: *number,
        },
    })
}

fn read_one(form: DecidedForm) -> Option<Decided> {
    Some(match form {
        DecidedForm::Bar { series, range, bar, old } => Decided::Bar {
            series: read_series(&series)?,
            bar: Bar { range: read_range(range)?, stored: read_told(bar)? },
            old: match old {
                Some(old) => Some(read_told(old)?),
                None => None,
            },
        },
        DecidedForm::IntervalClosed(series, at) => {
            Decided::Live(LiveChange::IntervalClosed(read_series(&series)?, read_time(at)))
        }
        DecidedForm::Gap(symbol, from, to) => {
            let (from, to): (Timestamp, Timestamp) = (read_time(from), read_time(to));
            Decided::Live(LiveChange::Gap(Symbol::parse(&symbol).ok()?, from, to))
        }
        DecidedForm::Reroll { series, range, until, number } => Decided::Reroll {
            series: read_series(&series)?,
            range: read_range(range)?,
            until: read_time(until),
            number,
        },
    })
}

fn series(of: &Series) -> SeriesForm {
    (of.symbol.to_string(), of.interval.to_string())
}

fn read_series((symbol, interval): &SeriesForm) -> Option<Series> {
    Some(Series::new(Symbol::parse(symbol).ok()?, interval.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
    use crate::domain::shared::Interval;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn symbol() -> Symbol {
        Symbol::parse("CME_MINI:ES1!").unwrap()
    }

    fn bar(revision: u32) -> StoredBar {
        let values = Ohlcv::new(-1.0, 2.5, -37.63, 0.1 + 0.2, Some(0.3)).unwrap();
        let mut bar = StoredBar::with_revision(at(60), values, revision, BarSource::Ticks);
        bar.tick_count = Some(7);
        bar
    }

    #[test]
    fn every_job_comes_back_as_it_was() {
        let series = Series::new(symbol(), Interval::Mo1);
        let range = BarRange::new(at(60), at(120)).unwrap();
        let decided = vec![
            Decided::Bar {
                series: series.clone(),
                bar: Bar { range, stored: bar(2) },
                old: Some(bar(1)),
            },
            Decided::Live(LiveChange::IntervalClosed(series.clone(), at(120))),
            Decided::Live(LiveChange::Gap(symbol(), at(1), at(2))),
            Decided::Reroll { series: series.clone(), range, until: at(90), number: 3 },
        ];
        let jobs = [
            Job::Decided(decided),
            Job::Keep(vec![(symbol(), Bytes::from_static(b"state"))]),
            Job::Forming(series, bar(0)),
            Job::LoggedFrom(symbol(), at(60)),
        ];
        let entries = encode(&jobs);
        let back: Vec<Job> = entries.iter().map(|entry| decode(entry).unwrap()).collect();
        assert_eq!(format!("{back:?}"), format!("{jobs:?}"));
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let entry = |bytes: &'static [u8]| SpoolEntry { subject: None, bytes: bytes.into() };
        assert!(decode(&entry(b"")).is_none());
        assert!(decode(&entry(br#"{"version":2,"job":{"LoggedFrom":["A:B",1]}}"#)).is_none());
        assert!(decode(&entry(br#"{"version":1,"job":{"LoggedFrom":["A:B",1]}}"#)).is_some());
        let subject = Some("no symbol".to_owned());
        assert!(decode(&SpoolEntry { subject, bytes: Bytes::new() }).is_none());
    }
}
