//! Protobuf to query and command, segments to protobuf.

use jiff::Timestamp;

use super::{CoverageSegments, GapRepair, GetCoverage, RepairGaps};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::domain::coverage::{CoverageReason, Segment, TimeRange};
use crate::domain::shared::Series;
use crate::features::market_data::wire::{ReadFields as _, count, timestamp};
use crate::proto::v1 as pb;

impl TryFrom<pb::GetCoverageRequest> for GetCoverage {
    type Error = InvalidFields;

    fn try_from(request: pb::GetCoverageRequest) -> Result<Self, InvalidFields> {
        let pb::GetCoverageRequest { symbol, interval, start_time, end_time } = request;
        stretch(&symbol, interval, start_time, end_time)
            .map(|(series, range)| Self { series, range })
    }
}

impl TryFrom<pb::RepairGapsRequest> for RepairGaps {
    type Error = InvalidFields;

    fn try_from(request: pb::RepairGapsRequest) -> Result<Self, InvalidFields> {
        let pb::RepairGapsRequest { symbol, interval, start_time, end_time } = request;
        stretch(&symbol, interval, start_time, end_time)
            .map(|(series, range)| Self { series, range })
    }
}

impl From<CoverageSegments> for pb::GetCoverageResponse {
    fn from(CoverageSegments(segments): CoverageSegments) -> Self {
        Self { segments: segments.into_iter().map(segment).collect() }
    }
}

impl From<GapRepair> for pb::RepairGapsResponse {
    fn from(GapRepair { report, repaired }: GapRepair) -> Self {
        Self { result: Some(report.into()), segments: repaired.into_iter().map(segment).collect() }
    }
}

/// A series and a range of it, both ends of which are required.
fn stretch(
    symbol: &str,
    interval: i32,
    start: Option<prost_types::Timestamp>,
    end: Option<prost_types::Timestamp>,
) -> Result<(Series, TimeRange), InvalidFields> {
    let mut violations = FieldViolations::default();
    let series = violations.series(symbol, interval);
    for (field, given) in [("start_time", start), ("end_time", end)] {
        match given {
            None => violations.push(field, "is required"),
            // Elsewhere the last time stands for those behind it; here the answer names its ends.
            Some(time) if time.seconds > Timestamp::MAX.as_second() => {
                violations.push(field, "must be 9999-12-30T22:00:00Z at the latest");
            }
            Some(_) => {}
        }
    }
    let (start, end) = violations.range(start, end);
    let range = start.zip(end).and_then(|(start, end)| TimeRange::new(start, end));
    violations.finish(series.zip(range))
}

fn segment(segment: Segment) -> pb::Segment {
    let reason = match segment.reason {
        CoverageReason::Data => pb::CoverageReason::Data,
        CoverageReason::MarketClosed => pb::CoverageReason::MarketClosed,
        CoverageReason::ProviderEmpty => pb::CoverageReason::ProviderEmpty,
        CoverageReason::FeedDown => pb::CoverageReason::FeedDown,
        CoverageReason::NoTrades => pb::CoverageReason::NoTrades,
        CoverageReason::NotSynced => pb::CoverageReason::NotSynced,
    };
    pb::Segment {
        start_time: Some(timestamp(segment.range.open())),
        end_time: Some(timestamp(segment.range.close())),
        reason: reason.into(),
        bar_count: count(segment.bar_count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::error::Coded as _;

    #[test]
    fn a_range_that_the_answer_could_not_name_is_refused() {
        let last = Timestamp::MAX.as_second();
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let daily = pb::Interval::Interval1d.into();
        let read = |end| stretch("NYSE:IBM", daily, time(0), time(end));
        assert_eq!(read(last).unwrap().1.close().as_second(), last);
        let violations = read(last + 1).unwrap_err().violations();
        assert_eq!((violations.len(), violations[0].field.as_str()), (1, "end_time"));
    }
}
