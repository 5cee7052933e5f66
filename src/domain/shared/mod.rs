//! What every aggregate speaks of: symbols, intervals, series, events.

mod event;
mod interval;
mod series;
mod symbol;

pub use event::{DomainEvent, EventPayload, EventType, UnknownEventType};
pub use interval::{Interval, UnknownInterval};
pub use series::Series;
pub use symbol::{MAX_SYMBOL_LENGTH, Symbol, SymbolError};
