//! The rules of market data: pure, no I/O, no runtime, no clock, no randomness.
