//! What the service does, one folder a capability.

pub mod market_data;
