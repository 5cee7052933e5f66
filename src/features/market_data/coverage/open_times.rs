//! The open times of a series' bars, read as they are needed.

use std::collections::VecDeque;

use futures::StreamExt as _;
use jiff::Timestamp;

use crate::domain::coverage::TimeRange;
use crate::domain::shared::Series;
use crate::infrastructure::persistence::{BarStream, Database, DatabaseError};

/// Bars that are read at a time.
const CHUNK: u32 = 8_192;

/// Open times, in order. Holds about a page of them.
pub(super) struct OpenTimes {
    chunks: BarStream,
    ended: bool,
    /// A bar that is not over, and so not among those that are read.
    forming: Option<Timestamp>,
    read: VecDeque<Timestamp>,
}

impl OpenTimes {
    /// Of the final bars of `series` that open in `range`, and of the one that is `forming`.
    pub(super) fn new(
        database: &Database,
        series: &Series,
        range: TimeRange,
        forming: Option<Timestamp>,
    ) -> Self {
        let (start, end) = (Some(range.open()), Some(range.close()));
        let chunks = database.bars().export(series, start, end, CHUNK);
        let forming = forming.filter(|open| range.contains(*open));
        Self { chunks, ended: false, forming, read: VecDeque::new() }
    }

    /// What is read and not taken yet, with every bar that opens before `until`.
    pub(super) async fn until(
        &mut self,
        until: Timestamp,
    ) -> Result<&mut VecDeque<Timestamp>, DatabaseError> {
        while !self.ended && self.read.back().is_none_or(|last| *last < until) {
            match self.chunks.next().await.transpose()? {
                Some(columns) => {
                    let times = columns.open_time_ms.into_iter();
                    let times = times.filter_map(|time| Timestamp::from_millisecond(time).ok());
                    self.read.extend(times);
                }
                None => self.ended = true,
            }
        }
        if let Some(forming) = self.forming.take_if(|forming| *forming < until) {
            let place = self.read.partition_point(|open| *open < forming);
            if self.read.get(place) != Some(&forming) {
                self.read.insert(place, forming);
            }
        }
        Ok(&mut self.read)
    }
}
