//! When the service does what by itself.

use super::parse::{self, Reader};
use super::table as t;
use super::table::Setting;
use crate::common::schedule::Schedule;

/// The jobs, and whether any of them runs by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobsSettings {
    /// Whether jobs run by schedule here; by hand they always do.
    pub enabled: bool,
    /// Fetches the newest bars of every series.
    pub market_data_sync_all: JobSettings,
    /// Fetches the newest days of every series of days.
    pub market_data_sync_daily: JobSettings,
    /// Fetches what was missed while the feed was down.
    pub repair_gaps: JobSettings,
    /// Removes what is no longer kept.
    pub retention: JobSettings,
}

/// When a job runs by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSettings {
    /// Its name.
    pub job_id: &'static str,
    /// When.
    pub schedule: Schedule,
    /// Whether it does.
    pub enabled: bool,
}

impl JobsSettings {
    /// Every job, in the order of the documentation.
    pub const fn each(&self) -> [&JobSettings; 4] {
        let Self { market_data_sync_all, market_data_sync_daily, repair_gaps, retention, .. } =
            self;
        [market_data_sync_all, market_data_sync_daily, repair_gaps, retention]
    }
}

pub(super) fn jobs(reader: &mut Reader<'_>) -> Option<JobsSettings> {
    let enabled = reader.read(&t::JOBS_ENABLED, parse::boolean);
    let mut job = |job_id, schedule: &Setting, enabled: &Setting| {
        let schedule = reader.read(schedule, parse::schedule);
        let enabled = reader.read(enabled, parse::boolean);
        Some(JobSettings { job_id, schedule: schedule?, enabled: enabled? })
    };
    let market_data_sync_all = job(
        "market_data_sync_all",
        &t::JOB_MARKET_DATA_SYNC_ALL_SCHEDULE,
        &t::JOB_MARKET_DATA_SYNC_ALL_ENABLED,
    );
    let market_data_sync_daily = job(
        "market_data_sync_daily",
        &t::JOB_MARKET_DATA_SYNC_DAILY_SCHEDULE,
        &t::JOB_MARKET_DATA_SYNC_DAILY_ENABLED,
    );
    let repair_gaps = job("repair_gaps", &t::JOB_REPAIR_GAPS_SCHEDULE, &t::JOB_REPAIR_GAPS_ENABLED);
    let retention = job("retention", &t::JOB_RETENTION_SCHEDULE, &t::JOB_RETENTION_ENABLED);
    Some(JobsSettings {
        enabled: enabled?,
        market_data_sync_all: market_data_sync_all?,
        market_data_sync_daily: market_data_sync_daily?,
        repair_gaps: repair_gaps?,
        retention: retention?,
    })
}
