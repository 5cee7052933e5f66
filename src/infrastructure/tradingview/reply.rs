//! Puts the answer to one request for bars together, message by message. Pure: knows neither the
//! socket nor the time.

use jiff::Timestamp;

use super::errors;
use super::message::ChartEvent;
use crate::domain::shared::Symbol;
use crate::domain::symbol::SymbolDescription;
use crate::infrastructure::interfaces::{HistoryEnd, Phase, ProviderError, RawBar};

/// Most bars of one answer: some five times what the server is known to send.
const MAX_BARS: usize = 100_000;

/// The answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    /// Sorted by time, each once, all older than what was known before.
    pub(super) bars: Vec<RawBar>,
    /// What the symbol is, where the answer said so.
    pub(super) symbol: Option<SymbolDescription>,
    /// The server's clock when it sent the bars, where it said so.
    pub(super) server_time: Option<Timestamp>,
    /// Why nothing older follows, where the answer said so.
    pub(super) end: Option<HistoryEnd>,
}

/// What a message changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it repeats what is known, or belongs to another answer.
    Idle,
    /// The answer has come further.
    Progress,
    /// The answer is there, for better or worse.
    Finished,
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Assembly {
    symbol: Symbol,
    /// Only bars before this one are new.
    before: Timestamp,
    began: bool,
    bars: Vec<RawBar>,
    timeless: usize,
    description: Option<SymbolDescription>,
    data_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    outcome: Option<Result<Option<HistoryEnd>, ProviderError>>,
}

impl Assembly {
    /// Expects bars that are older than `oldest`, or any where none is known yet.
    pub(super) fn new(symbol: Symbol, oldest: Option<Timestamp>) -> Self {
        Self {
            symbol,
            before: oldest.unwrap_or(Timestamp::MAX),
            began: false,
            bars: Vec::new(),
            timeless: 0,
            description: None,
            data_time: None,
            end_time: None,
            outcome: None,
        }
    }

    /// Takes a message of this chart session.
    pub(super) fn apply(&mut self, event: ChartEvent, server_time: Option<Timestamp>) -> Step {
        if self.outcome.is_some() {
            return Step::Idle;
        }
        match event {
            ChartEvent::Loading => self.begin(),
            ChartEvent::Resolved(description) => self.resolve(*description),
            ChartEvent::Bars { bars, timeless } => self.take(bars, timeless, server_time),
            ChartEvent::Completed(end) => self.complete(end, server_time),
            ChartEvent::SymbolError(said) => self.fail(errors::symbol_error(&self.symbol, &said)),
            ChartEvent::SeriesError(reason) => {
                self.fail(errors::series_error(&self.symbol, &reason))
            }
            ChartEvent::CriticalError(said) => {
                self.fail(errors::critical_error(&said, Phase::History))
            }
        }
    }

    /// Ends it with `error`, unless it has ended before.
    pub(super) fn fail(&mut self, error: ProviderError) -> Step {
        if self.outcome.is_some() {
            return Step::Idle;
        }
        self.outcome = Some(Err(error));
        Step::Finished
    }

    /// Whether [`Self::finish`] has something to answer.
    pub(super) const fn is_finished(&self) -> bool {
        self.outcome.is_some()
    }

    /// The answer; none before it is there.
    pub(super) fn finish(self) -> Option<Result<Reply, ProviderError>> {
        let end = match self.outcome? {
            Ok(end) => end,
            Err(error) => return Some(Err(error)),
        };
        if self.timeless > 0 {
            tracing::warn!(symbol = %self.symbol, bars = self.timeless, "bars without a time were dropped");
        }
        Some(Ok(Reply {
            bars: sorted(self.bars),
            symbol: self.description,
            server_time: self.data_time.or(self.end_time),
            end,
        }))
    }

    fn begin(&mut self) -> Step {
        if std::mem::replace(&mut self.began, true) { Step::Idle } else { Step::Progress }
    }

    fn resolve(&mut self, description: SymbolDescription) -> Step {
        let known = self.description.is_some();
        self.description = Some(description);
        if known { Step::Idle } else { Step::Progress }
    }

    fn take(&mut self, bars: Vec<RawBar>, timeless: usize, server_time: Option<Timestamp>) -> Step {
        self.timeless += timeless;
        let count = self.bars.len();
        self.bars.extend(bars.into_iter().filter(|bar| bar.open_time < self.before));
        if self.bars.len() == count {
            return Step::Idle;
        }
        self.began = true;
        // The earliest time: a bar counts as finished only if it was when its values were sent.
        self.data_time = self.data_time.into_iter().chain(server_time).min();
        if self.bars.len() > MAX_BARS {
            let detail = format!("more than {MAX_BARS} bars in one answer");
            return self.fail(errors::unavailable(Phase::History, &detail));
        }
        Step::Progress
    }

    fn complete(&mut self, end: Option<HistoryEnd>, server_time: Option<Timestamp>) -> Step {
        // An answer begins before it ends: what does not is the last answer's end, repeated.
        let first = self.before == Timestamp::MAX;
        if !self.began && !first && end.is_none() {
            return Step::Idle;
        }
        self.end_time = server_time;
        self.outcome = Some(Ok(end));
        Step::Finished
    }
}

/// By time; of bars at one time the last that came.
fn sorted(mut bars: Vec<RawBar>) -> Vec<RawBar> {
    bars.reverse();
    bars.sort_by_key(|bar| bar.open_time);
    bars.dedup_by_key(|bar| bar.open_time);
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn bar(seconds: i64, close: f64) -> RawBar {
        let open_time = at(seconds);
        RawBar { open_time, open: 1.0, high: 9.0, low: 0.5, close, volume: None }
    }

    fn bars(all: &[(i64, f64)]) -> ChartEvent {
        let bars = all.iter().map(|(seconds, close)| bar(*seconds, *close)).collect();
        ChartEvent::Bars { bars, timeless: 0 }
    }

    fn assembly(oldest: Option<i64>) -> Assembly {
        Assembly::new(Symbol::parse("NASDAQ:AAPL").unwrap(), oldest.map(at))
    }

    fn times(reply: &Reply) -> Vec<i64> {
        reply.bars.iter().map(|bar| bar.open_time.as_second()).collect()
    }

    #[test]
    fn bars_are_sorted_and_of_repeated_ones_the_last_counts() {
        let mut answer = assembly(None);
        assert_eq!(answer.apply(ChartEvent::Loading, None), Step::Progress);
        answer.apply(bars(&[(180, 3.0), (60, 1.0), (120, 2.0)]), Some(at(1_000)));
        answer.apply(bars(&[(180, 4.0)]), Some(at(1_005)));
        assert_eq!(answer.apply(ChartEvent::Completed(None), Some(at(1_010))), Step::Finished);
        let reply = answer.finish().unwrap().unwrap();
        assert_eq!(times(&reply), [60, 120, 180]);
        assert!((reply.bars[2].close - 4.0).abs() < f64::EPSILON);
        assert_eq!(reply.server_time, Some(at(1_000)), "when the first values were sent");
    }

    #[test]
    fn known_bars_are_no_progress() {
        let mut answer = assembly(Some(120));
        assert_eq!(answer.apply(bars(&[(120, 1.0), (180, 1.0)]), None), Step::Idle);
        assert_eq!(answer.apply(bars(&[(60, 1.0), (120, 1.0)]), None), Step::Progress);
        answer.apply(ChartEvent::Completed(Some(HistoryEnd::End)), Some(at(9)));
        let reply = answer.finish().unwrap().unwrap();
        assert_eq!((times(&reply), reply.end), (vec![60], Some(HistoryEnd::End)));
        assert_eq!(reply.server_time, Some(at(9)), "the end's time where the bars had none");
    }

    #[test]
    fn the_repeated_end_of_the_last_answer_ends_nothing() {
        let mut answer = assembly(Some(120));
        assert_eq!(answer.apply(ChartEvent::Completed(None), None), Step::Idle);
        assert!(!answer.is_finished());
        answer.apply(ChartEvent::Loading, None);
        assert_eq!(answer.apply(ChartEvent::Loading, None), Step::Idle);
        assert_eq!(answer.apply(ChartEvent::Completed(None), None), Step::Finished);
        assert_eq!(times(&answer.finish().unwrap().unwrap()), Vec::<i64>::new());
    }

    #[test]
    fn the_first_refusal_counts() {
        let mut answer = assembly(None);
        let refused = ChartEvent::SymbolError(vec!["permission denied".to_owned()]);
        assert_eq!(answer.apply(refused, None), Step::Finished);
        let after = ChartEvent::SeriesError("resolve error".to_owned());
        assert_eq!(answer.apply(after, None), Step::Idle);
        let error = answer.finish().unwrap().unwrap_err();
        assert!(matches!(error, ProviderError::NotEntitled { .. }), "{error}");
    }

    #[test]
    fn an_endless_answer_is_refused() {
        let mut answer = assembly(None);
        let many: Vec<(i64, f64)> = (0..60_000).map(|minute| (minute * 60, 1.0)).collect();
        assert_eq!(answer.apply(bars(&many), None), Step::Progress);
        assert_eq!(answer.apply(bars(&many), None), Step::Finished);
        assert!(answer.finish().unwrap().is_err());
    }

    #[test]
    fn there_is_no_answer_before_its_end() {
        assert!(assembly(None).finish().is_none());
    }
}
