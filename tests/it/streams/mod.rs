//! Streams of quotes and bars: what they say, where they resume, whom they let go.

mod bars;
mod forming;
mod limits;
mod market;
mod resume;
mod slow;
