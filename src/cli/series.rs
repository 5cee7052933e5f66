//! The arguments that name a series, and a range of it.

use clap::Args;
use jiff::Timestamp;

use super::names::interval_parser;
use super::times::parse_time;
use crate::domain::shared::Interval;

/// Which series.
#[derive(Clone, Debug, Args)]
pub(super) struct SeriesArgs {
    /// The symbol, as EXCHANGE:CODE, e.g. NASDAQ:AAPL
    pub(super) symbol: String,
    /// The bar length
    #[arg(short, long, default_value = "1d", value_parser = interval_parser())]
    pub(super) interval: Interval,
}

/// Which stretch of time.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct StretchArgs {
    /// Where it begins: a date (midnight UTC) or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) from: Timestamp,
    /// Where it ends, exclusive [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<Timestamp>,
}

impl StretchArgs {
    /// Where it ends.
    pub(super) fn to(&self) -> Timestamp {
        self.to.unwrap_or_else(Timestamp::now)
    }
}

/// Which part of a series, by open time.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct RangeArgs {
    /// Only bars that open at or after TIME: a date (midnight UTC) or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) from: Option<Timestamp>,
    /// Only bars that open before TIME
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) to: Option<Timestamp>,
}
