//! The one table of jobs.

use std::time::Duration;

use super::Job;
use super::repair::repair_missed;
use super::retention::Retention;
use super::sync_tracked::SyncTracked;
use crate::common::config::JobsSettings;
use crate::domain::shared::Interval;
use crate::features::market_data::coverage::GapRepairs;
use crate::features::market_data::sync::SyncService;
use crate::infrastructure::persistence::Database;

/// Bars that `market_data_sync_all` fetches of each series.
const NEWEST_BARS: u32 = 500;
/// Days that `market_data_sync_daily` fetches of each series of days.
const NEWEST_DAYS: u32 = 10;

/// What jobs work with.
#[derive(Clone, Debug)]
pub struct JobParts {
    /// Everything that is kept.
    pub database: Database,
    /// Copies series.
    pub syncs: SyncService,
    /// Fetches what was missed.
    pub repairs: GapRepairs,
    /// How long the bar log keeps entries.
    pub bar_log_retention: Duration,
}

/// Every job there is: its settings, how long a run may take, and what it does.
pub fn table(settings: &JobsSettings, parts: &JobParts) -> Vec<Job> {
    let JobParts { database, syncs, repairs, bar_log_retention } = parts;
    let sync = |interval, bars| SyncTracked {
        database: database.clone(),
        syncs: syncs.clone(),
        interval,
        bars,
    };
    let all = sync(None, NEWEST_BARS);
    let daily = sync(Some(Interval::D1), NEWEST_DAYS);
    let repairs = repairs.clone();
    let retention = Retention { database: database.clone(), bar_log: *bar_log_retention };
    vec![
        Job::new(&settings.market_data_sync_all, Duration::from_hours(5), move || {
            all.clone().run()
        }),
        Job::new(&settings.market_data_sync_daily, Duration::from_mins(55), move || {
            daily.clone().run()
        }),
        Job::new(&settings.repair_gaps, Duration::from_hours(4), move || {
            repair_missed(repairs.clone())
        }),
        Job::new(&settings.retention, Duration::from_mins(30), move || retention.clone().run()),
    ]
}
