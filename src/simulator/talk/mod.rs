//! The conversation on one connection: requests in, answers out. It knows no socket.

mod bars_message;
mod chart;
mod delivery;
mod dialogue;
mod hello;
mod live;
mod live_fields;
mod outbox;
mod page;
mod quote;
mod resolve;
mod series;
mod snapshot;
mod symbol_info;
mod timescale;
mod token;
mod updates;

pub(super) use dialogue::Dialogue;
pub(super) use outbox::Due;
