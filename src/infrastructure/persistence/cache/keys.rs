//! What is cached under which name, and for how long.

use std::time::Duration;

use crate::domain::shared::{Series, Symbol};

/// How long encoded bars are kept.
pub const BARS_TTL: Duration = Duration::from_mins(5);

/// How long a series stays marked as being written, where the writer never says that it is done.
pub const WRITING_TTL: Duration = Duration::from_mins(1);

/// How long a generation is kept. One that is lost is made anew, so this only tidies up.
pub const GENERATION_TTL: Duration = Duration::from_hours(24);

/// How long a symbol's latest quote is kept.
pub const QUOTE_TTL: Duration = Duration::from_mins(1);

/// How long the bar that forms is kept.
pub const CURRENT_BAR_TTL: Duration = Duration::from_mins(5);

/// Where a symbol's latest quote is kept.
pub fn latest_quote(symbol: &Symbol) -> String {
    format!("quote:latest:{}:{}", symbol.exchange(), symbol.code())
}

/// Where the bar of a series that forms is kept.
pub fn current_bar(series: &Series) -> String {
    let Series { symbol, interval } = series;
    format!("bar:current:{}:{}:{interval}", symbol.exchange(), symbol.code())
}

/// Where a series' generation is kept.
pub fn generation(series: &Series) -> String {
    format!(
        "ohlcv:generation:{}:{}:{}",
        series.symbol.code(),
        series.symbol.exchange(),
        series.interval
    )
}

/// Where the encoded answer to `query` is kept, as of `generation`.
pub fn bars(series: &Series, generation: &str, query: &str) -> String {
    format!(
        "ohlcv:{}:{}:{}:g{generation}:{query}",
        series.symbol.code(),
        series.symbol.exchange(),
        series.interval
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::shared::Interval;

    #[test]
    fn keys_are_what_operators_look_for() {
        let series = Series::new(Symbol::parse("NASDAQ:AAPL").unwrap(), Interval::Mo1);
        assert_eq!(generation(&series), "ohlcv:generation:AAPL:NASDAQ:1M");
        assert_eq!(bars(&series, "7", "q"), "ohlcv:AAPL:NASDAQ:1M:g7:q");
        assert_eq!(latest_quote(&series.symbol), "quote:latest:NASDAQ:AAPL");
        assert_eq!(current_bar(&series), "bar:current:NASDAQ:AAPL:1M");
    }
}
