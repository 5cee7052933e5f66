//! Why a series has bars where it has them, and none elsewhere: time cut into cells, each with a
//! reason.

mod cells;
mod presence;
mod ranges;
mod segments;
#[cfg(test)]
mod tests;

pub use cells::{Cell, Cells};
pub use presence::FeedPresence;
pub use ranges::{RangeSet, TimeRange};
pub use segments::{CoverageFacts, CoverageReason, Segment, Segments};
