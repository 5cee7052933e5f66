//! Where bars, symbols and sync statuses are kept.
