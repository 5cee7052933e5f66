//! What is decided over many bars at once.

mod bar_clock;
mod roll_up;

pub use bar_clock::BarClock;
pub use roll_up::{RolledBar, roll_up};
