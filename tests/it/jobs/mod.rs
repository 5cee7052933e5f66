//! What the service does by itself: when, once, never twice at a time, over stops and crashes.

mod calls;
mod crashes;
mod schedule;
mod work;
