//! Which run of a job is due: missed instants become one run, none runs twice, and one that was
//! cut off runs again.

use jiff::Timestamp;

use super::JobOutcome;

/// Runs for one instant at most: one that a crash cuts off is tried again, but a job that crashes
/// the service does not do so for ever.
pub const MAX_ATTEMPTS: u32 = 5;

/// The newest run that was begun by schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// For which instant.
    pub instant: Timestamp,
    /// The how manyth run for it: from 1.
    pub attempt: u32,
    /// How it ended; absent while it runs.
    pub outcome: Option<JobOutcome>,
}

/// A run that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueRun {
    /// For which instant: the newest that has come.
    pub instant: Timestamp,
    /// The how manyth run for it: from 1.
    pub attempt: u32,
}

/// The run that is due, if one is. `newest` is the schedule's newest instant that has come; those
/// up to `since` do not count, as the job had another schedule then, or none.
pub fn due_run(
    newest: Option<Timestamp>,
    since: Timestamp,
    last: Option<LastRun>,
) -> Option<DueRun> {
    let is_new =
        |instant: &Timestamp| *instant > since && last.is_none_or(|last| *instant > last.instant);
    if let Some(instant) = newest.filter(is_new) {
        return Some(DueRun { instant, attempt: 1 });
    }
    let LastRun { instant, attempt, outcome } = last?;
    let again = outcome == Some(JobOutcome::Interrupted) && attempt < MAX_ATTEMPTS;
    again.then(|| DueRun { instant, attempt: attempt + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).unwrap()
    }

    fn last(hour: i64, attempt: u32, outcome: Option<JobOutcome>) -> LastRun {
        LastRun { instant: at(hour), attempt, outcome }
    }

    fn due(newest: i64, since: i64, last: impl Into<Option<LastRun>>) -> Option<(Timestamp, u32)> {
        due_run(Some(at(newest)), at(since), last.into()).map(|due| (due.instant, due.attempt))
    }

    #[test]
    fn an_instant_is_due_once_and_the_newest_stands_for_all_that_were_missed() {
        let done = Some(JobOutcome::Succeeded);
        assert_eq!(due(6, 1, None), Some((at(6), 1)));
        assert_eq!(due(6, 1, last(3, 1, done)), Some((at(6), 1)), "4 and 5 were missed too");
        for outcome in [None, done, Some(JobOutcome::Failed), Some(JobOutcome::TimedOut)] {
            assert_eq!(due(6, 1, last(6, 1, outcome)), None);
        }
        assert_eq!(due(5, 1, last(6, 1, done)), None, "the clock went back");
    }

    #[test]
    fn what_came_before_the_schedule_is_not_due() {
        assert_eq!(due(6, 6, None), None);
        assert_eq!(due(6, 7, last(3, 1, Some(JobOutcome::Succeeded))), None);
        assert_eq!(due_run(None, at(1), None), None);
    }

    #[test]
    fn a_run_that_was_cut_off_is_due_again_unless_a_newer_one_is_or_it_was_often() {
        let cut = Some(JobOutcome::Interrupted);
        assert_eq!(due(6, 1, last(6, 1, cut)), Some((at(6), 2)));
        assert_eq!(due(7, 1, last(6, 4, cut)), Some((at(7), 1)));
        assert_eq!(due(6, 1, last(6, MAX_ATTEMPTS, cut)), None);
    }
}
