//! Ask the provider for what is missing in a range.

use super::gap_repairs::{GapRepair, GapRepairs};
use super::repair_error::RepairError;
use crate::common::mediator::{Handler, Request};
use crate::domain::coverage::{CoverageReason, TimeRange};
use crate::domain::shared::Series;

/// Ask the provider for what was missed while the feed was away, and for what was never synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairGaps {
    /// Which series.
    pub series: Series,
    /// Which time.
    pub range: TimeRange,
}

impl Request for RepairGaps {
    type Output = GapRepair;
    type Error = RepairError;
    const NAME: &'static str = "market_data.repair_gaps";
}

pub(super) struct RepairGapsHandler {
    pub(super) repairs: GapRepairs,
}

impl Handler<RepairGaps> for RepairGapsHandler {
    async fn handle(&self, command: RepairGaps) -> Result<GapRepair, RepairError> {
        let RepairGaps { series, range } = command;
        self.repairs.repair(&series, range, CoverageReason::is_gap).await
    }
}
