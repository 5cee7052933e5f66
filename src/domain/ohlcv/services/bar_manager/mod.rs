//! Builds bars of all thirteen intervals from ticks.
//!
//! A tick goes into its one-minute bar and nowhere else; longer bars are rolled up from minutes
//! when they close or somebody asks. What happened is answered as [`BarChange`]s; a service
//! writes and tells them. Of closed bars only those stay in memory that a late tick can reach.
//! It knows no provider, no database, no clock: the caller says what time it is.

mod change;
mod closing;
mod doubt;
mod forming;
mod joining;
mod lane;
mod manager;
mod minute;
mod registry;
mod repair;
mod rolled;
mod rules;
mod snapshot;
#[cfg(test)]
mod tests;
mod track;

pub use change::{BarChange, TickCounts};
pub use joining::{JoinPoint, Seed};
pub use lane::ParentBar;
pub use manager::BarManager;
pub use minute::{BarVolume, MinuteBar};
pub use repair::{RepairedBar, alike};
pub use rolled::Rolled;
pub use rules::{BarRules, FUTURE_TOLERANCE, FeedClock};
pub use snapshot::TrackSnapshot;
