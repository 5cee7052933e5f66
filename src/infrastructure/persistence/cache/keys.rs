//! What is cached under which name, and for how long.

use std::time::Duration;

use crate::common::idempotency::Scope;
use crate::domain::shared::{Series, Symbol};

/// How long encoded bars are kept.
pub const BARS_TTL: Duration = Duration::from_mins(5);

/// How long a series stays marked as being written, where the writer never says that it is done.
pub const WRITING_TTL: Duration = Duration::from_mins(1);

/// How long a generation and the epoch are kept. One that is lost is made anew, so this only tidies up.
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

/// Where the epoch of all series is kept.
pub const EPOCH: &str = "ohlcv:epoch";

/// Where the encoded answer to `query` is kept, as of `epoch` and `generation`.
pub fn bars(series: &Series, epoch: &str, generation: &str, query: &str) -> String {
    format!(
        "ohlcv:{}:{}:{}:g{generation}.{epoch}:{query}",
        series.symbol.code(),
        series.symbol.exchange(),
        series.interval
    )
}

/// Where it is kept what became of an idempotency key. A colon in the principal is written `%3A`,
/// so that no two scopes have one name.
pub fn idempotency(scope: &Scope) -> String {
    let Scope { principal, method, key } = scope;
    let principal = principal.to_string().replace('%', "%25").replace(':', "%3A");
    format!("idempotency:{principal}:{method}:{key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::idempotency::IdempotencyKey;
    use crate::common::identity::Principal;
    use crate::domain::shared::Interval;

    #[test]
    fn keys_are_what_operators_look_for() {
        let series = Series::new(Symbol::parse("NASDAQ:AAPL").unwrap(), Interval::Mo1);
        assert_eq!(generation(&series), "ohlcv:generation:AAPL:NASDAQ:1M");
        assert_eq!(bars(&series, "5", "7", "q"), "ohlcv:AAPL:NASDAQ:1M:g7.5:q");
        assert_eq!(latest_quote(&series.symbol), "quote:latest:NASDAQ:AAPL");
        assert_eq!(current_bar(&series), "bar:current:NASDAQ:AAPL:1M");
        let scope = |principal: &str, key: &str| Scope {
            principal: Principal::ApiKey(principal.into()),
            method: "m",
            key: IdempotencyKey::parse(key.as_bytes()).unwrap(),
        };
        assert_eq!(idempotency(&scope("ann", "k")), "idempotency:key%3Aann:m:k");
        assert_ne!(idempotency(&scope("ann", "m:k")), idempotency(&scope("ann:m", "k")));
    }
}
