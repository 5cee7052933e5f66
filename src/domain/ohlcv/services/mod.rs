//! What is decided over many bars at once.

mod bar_clock;
mod bar_manager;
mod roll_up;

pub use bar_clock::BarClock;
pub use bar_manager::{
    BarChange, BarManager, BarRules, BarVolume, FUTURE_TOLERANCE, FeedClock, JoinPoint, MinuteBar,
    ParentBar, RepairedBar, Rolled, Seed, TickCounts, TrackSnapshot, alike,
};
pub use roll_up::{RolledBar, roll_up};
