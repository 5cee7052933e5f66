//! Why a series has bars or none: what the provider never had, holidays, outages, and their repair.

mod elsewhere;
mod feed;
mod history;
mod ledger;
mod restart;

use jiff::Timestamp;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::CoverageReason::{self, FeedDown};
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use prost_types::Timestamp as PbTimestamp;
use tonic::Status;
use tonic::transport::Channel;

/// A segment: from, to, why, bars.
type Row = (String, String, CoverageReason, i32);

fn time(text: &str) -> PbTimestamp {
    let text = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => text.to_owned(),
    };
    let time: Timestamp = text.parse().unwrap();
    PbTimestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

fn said(segment: &pb::Segment) -> Row {
    let text = |time: Option<PbTimestamp>| {
        let time = time.unwrap();
        let time = Timestamp::new(time.seconds, time.nanos).unwrap().to_string();
        time.strip_suffix(":00Z").map(str::to_owned).unwrap_or(time)
    };
    (text(segment.start_time), text(segment.end_time), segment.reason(), segment.bar_count)
}

fn row(from: &str, to: &str, reason: CoverageReason, bars: i32) -> Row {
    (from.to_owned(), to.to_owned(), reason, bars)
}

/// The coverage of a stretch: it is covered, in order, and neighbours differ.
async fn coverage(
    client: &mut MarketDataClient<Channel>,
    symbol: &str,
    interval: Interval,
    (from, to): (&str, &str),
) -> Result<Vec<Row>, Status> {
    let request = pb::GetCoverageRequest {
        symbol: symbol.to_owned(),
        interval: interval.into(),
        start_time: Some(time(from)),
        end_time: Some(time(to)),
    };
    let segments = client.get_coverage(request).await?.into_inner().segments;
    assert_eq!(segments.first().unwrap().start_time, Some(time(from)));
    assert_eq!(segments.last().unwrap().end_time, Some(time(to)));
    for pair in segments.windows(2) {
        assert_eq!(pair[0].end_time, pair[1].start_time);
        assert_ne!(pair[0].reason, pair[1].reason);
    }
    Ok(segments.iter().map(said).collect())
}

async fn repair(
    client: &mut MarketDataClient<Channel>,
    symbol: &str,
    interval: Interval,
    (from, to): (&str, &str),
) -> Result<(pb::SyncResult, Vec<Row>), Status> {
    let request = pb::RepairGapsRequest {
        symbol: symbol.to_owned(),
        interval: interval.into(),
        start_time: Some(time(from)),
        end_time: Some(time(to)),
    };
    let answer = client.repair_gaps(request).await?.into_inner();
    Ok((answer.result.unwrap(), answer.segments.iter().map(said).collect()))
}

fn of(rows: &[Row], reason: CoverageReason) -> Vec<&Row> {
    rows.iter().filter(|row| row.2 == reason).collect()
}

fn is_down(rows: &[Row]) -> bool {
    !of(rows, FeedDown).is_empty()
}
