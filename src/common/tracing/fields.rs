//! The one list of names that fields of log lines have.

/// Every field of our log lines; tests hold the source and real lines against it.
pub const LOG_FIELDS: &[&str] = &[];
