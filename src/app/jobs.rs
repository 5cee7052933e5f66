//! The jobs: what they work with, and what wakes them.

use jiff::Timestamp;

use super::StartError;
use crate::common::config::Settings;
use crate::common::error::with_causes;
use crate::common::messaging::Subscription;
use crate::common::shutdown::Lifecycle;
use crate::features::market_data::coverage::GapRepairs;
use crate::features::market_data::jobs::{self, Clock, JobParts, JobService};
use crate::features::market_data::quote::QuoteServiceParts;
use crate::features::market_data::sync::SyncService;
use crate::features::market_data::{Announced, Announcer};
use crate::infrastructure::scheduling::Heartbeat;

/// The jobs, on the machine's clock, with what the feed works with.
pub(super) fn service(
    settings: &Settings,
    feed: &QuoteServiceParts,
    syncs: &SyncService,
    repairs: &GapRepairs,
) -> JobService {
    let parts = JobParts {
        database: feed.database.clone(),
        syncs: syncs.clone(),
        repairs: repairs.clone(),
        bar_log_retention: settings.bars.log_retention,
    };
    let table = jobs::table(&settings.jobs, &parts);
    let (enabled, clock) = (settings.jobs.enabled, Clock::of_machine());
    JobService::new(table, enabled, &parts.database, clock, feed.lifecycle.clone())
}

/// What runs jobs without being asked.
#[derive(Debug)]
pub(super) struct Scheduled {
    jobs: JobService,
    heartbeat: Heartbeat,
    /// The job that runs after outages of the feed, and what tells of these.
    after_outages: Option<(&'static str, Subscription<Announced>)>,
}

impl Scheduled {
    /// Wakes `jobs` by schedule, and after outages that `announcer` tells of from now on; nothing
    /// where that is switched off.
    pub(super) async fn start(
        settings: &Settings,
        jobs: &JobService,
        announcer: &Announcer,
    ) -> Result<Option<Self>, StartError> {
        if !settings.jobs.enabled {
            return Ok(None);
        }
        let heartbeat = Box::pin(Heartbeat::start()).await;
        let heartbeat =
            heartbeat.map_err(|error| StartError { mistakes: vec![with_causes(&error)] })?;
        let repair = &settings.jobs.repair_gaps;
        let after_outages = repair.enabled.then(|| (repair.job_id, announcer.subscribe()));
        Ok(Some(Self { jobs: jobs.clone(), heartbeat, after_outages }))
    }

    /// Runs jobs until the service stops.
    pub(super) fn run(self, lifecycle: &Lifecycle) {
        let Self { jobs: service, heartbeat, after_outages } = self;
        if let Some((job_id, outages)) = after_outages {
            let repairing = service.clone().run_after_outages(job_id, outages, outage);
            drop(lifecycle.spawn("jobs after outages", Box::pin(repairing)));
        }
        drop(lifecycle.spawn("jobs", Box::pin(service.look_after(heartbeat))));
    }
}

/// When an outage of the feed was told.
fn outage(announced: &Announced) -> Option<Timestamp> {
    jobs::outage(&announced.event)
}
