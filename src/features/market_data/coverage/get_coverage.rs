//! Say why a series has bars, or none.

use std::collections::VecDeque;

use super::survey::Survey;
use crate::common::mediator::{Handler, Request};
use crate::domain::coverage::{Segment, TimeRange};
use crate::domain::shared::Series;
use crate::features::market_data::ReadError;

/// Why are there bars of a series in `range`, or none?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetCoverage {
    /// Which series.
    pub series: Series,
    /// Which time.
    pub range: TimeRange,
}

/// The answer: segments that cover the range, in order, without overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverageSegments(pub Vec<Segment>);

impl Request for GetCoverage {
    type Output = CoverageSegments;
    type Error = ReadError;
    const NAME: &'static str = "market_data.get_coverage";
}

pub(super) struct GetCoverageHandler {
    pub(super) survey: Survey,
}

impl Handler<GetCoverage> for GetCoverageHandler {
    async fn handle(&self, query: GetCoverage) -> Result<CoverageSegments, ReadError> {
        let GetCoverage { series, range } = query;
        if self.survey.database.symbols().get(&series.symbol).await?.is_none() {
            // Without its session there are no cells.
            let status = self.survey.database.sync_statuses().get(&series).await?;
            return Err(ReadError::not_synced(series, status));
        }
        self.survey.segments(&series, range, VecDeque::new()).await.map(CoverageSegments)
    }
}
