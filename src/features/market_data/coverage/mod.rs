//! Says why a series has bars or none, and asks the provider for what is missing.

mod gap_repairs;
mod get_coverage;
mod open_times;
mod repair_error;
mod repair_gaps;
mod survey;
mod wire;

pub use gap_repairs::{GapRepair, GapRepairs, RepairSweep};
pub use get_coverage::{CoverageSegments, GetCoverage};
pub use repair_error::RepairError;
pub use repair_gaps::RepairGaps;

use self::get_coverage::GetCoverageHandler;
use self::repair_gaps::RepairGapsHandler;
use crate::common::mediator::MediatorBuilder;

/// Adds this slice's handlers.
pub fn register(mediator: MediatorBuilder, repairs: &GapRepairs) -> MediatorBuilder {
    mediator
        .register(GetCoverageHandler { survey: repairs.survey().clone() })
        .register(RepairGapsHandler { repairs: repairs.clone() })
}
