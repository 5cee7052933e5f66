//! Cross-cutting building blocks; knows no feature and no vendor.

pub mod constants;
