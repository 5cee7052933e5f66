//! The limits of the API, as `GetServerInfo` tells them.

use crate::common::constants as c;
use crate::infrastructure::webhooks::MAX_URL_LENGTH;

/// Every limit that a request or an answer can meet, and what holds where a request names none.
pub(super) fn limits() -> impl Iterator<Item = (&'static str, i32)> {
    counts().into_iter().chain(sizes())
}

fn counts() -> [(&'static str, i32); 18] {
    [
        ("sync.bar_count.max", c::MAX_SYNC_BAR_COUNT),
        ("sync_symbols.symbols.max", number(c::MAX_SYNC_SYMBOLS)),
        ("get_bars.limit.default", c::DEFAULT_BARS_LIMIT),
        ("get_bars.limit.max", c::MAX_BARS_LIMIT),
        ("search_symbols.limit.default", c::DEFAULT_SEARCH_LIMIT),
        ("search_symbols.limit.max", c::MAX_SEARCH_LIMIT),
        ("export_bars.chunk_size.default", c::DEFAULT_CHUNK_SIZE),
        ("export_bars.chunk_size.max", c::MAX_CHUNK_SIZE),
        ("list.page_size.default", c::DEFAULT_PAGE_SIZE),
        ("list.page_size.max", c::MAX_PAGE_SIZE),
        ("list_events.limit.default", c::DEFAULT_EVENTS_LIMIT),
        ("list_events.limit.max", c::LISTED_EVENTS),
        ("list_quotes.symbols.max", number(c::MAX_STREAM_SYMBOLS)),
        ("stream.symbols.max", number(c::MAX_STREAM_SYMBOLS)),
        ("get_coverage.cells.max", number(c::MAX_COVERAGE_CELLS)),
        ("get_coverage.segments.max", number(c::MAX_COVERAGE_SEGMENTS)),
        ("webhooks.max", number(c::MAX_WEBHOOKS)),
        ("webhook.symbols.max", number(c::MAX_STREAM_SYMBOLS)),
    ]
}

fn sizes() -> [(&'static str, i32); 13] {
    let (name, description, asset_type) = c::MAX_CUSTOM_LENGTHS;
    let conflate = i32::try_from(c::MAX_CONFLATE.as_secs()).unwrap_or(i32::MAX);
    [
        ("stream_quotes.conflate.max_seconds", conflate),
        ("symbol.max_characters", number(c::MAX_SYMBOL_LENGTH)),
        ("search_symbols.query.max_characters", number(c::MAX_SEARCH_QUERY_LENGTH)),
        ("update_symbol.name.max_characters", number(name)),
        ("update_symbol.description.max_characters", number(description)),
        ("update_symbol.asset_type.max_characters", number(asset_type)),
        ("webhook.url.max_characters", number(MAX_URL_LENGTH)),
        ("webhook.description.max_characters", number(c::MAX_WEBHOOK_DESCRIPTION)),
        ("idempotency_key.max_characters", number(c::MAX_IDEMPOTENCY_KEY_LENGTH)),
        ("correlation_id.max_characters", number(c::MAX_CORRELATION_ID_LENGTH)),
        ("page_token.max_bytes", number(c::MAX_PAGE_TOKEN_LENGTH)),
        ("request.max_bytes", number(c::MAX_REQUEST_BYTES)),
        ("answer.max_bytes", number(c::MAX_RESPONSE_BYTES)),
    ]
}

fn number(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
