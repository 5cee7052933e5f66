//! Protobuf to queries, bars to protobuf.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;

use super::{BarExport, BarPage, ExportBars, GetBars};
use crate::common::constants::{
    DEFAULT_BARS_LIMIT, DEFAULT_CHUNK_SIZE, MAX_BARS_LIMIT, MAX_CHUNK_SIZE,
};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::domain::ohlcv::Bar;
use crate::features::market_data::ReadError;
use crate::features::market_data::page_token::{self, PageTokenInvalid};
use crate::features::market_data::wire::{ReadFields as _, bar, bar_state, interval};
use crate::infrastructure::persistence::BarOrder;
use crate::proto::v1 as pb;

impl TryFrom<pb::GetBarsRequest> for GetBars {
    type Error = ReadError;

    fn try_from(request: pb::GetBarsRequest) -> Result<Self, ReadError> {
        let mut violations = FieldViolations::default();
        let series = violations.series(&request.symbol, request.interval);
        let (start, end) = violations.range(request.start_time, request.end_time);
        let limit = violations.count("limit", request.limit, DEFAULT_BARS_LIMIT, MAX_BARS_LIMIT);
        let order = order(request.order);
        if order.is_none() {
            violations.push("order", "must be BAR_ORDER_NEWEST_FIRST or BAR_ORDER_OLDEST_FIRST");
        }
        let include_forming = request.include_forming;
        let query = series.zip(order).map(|(series, order)| Self {
            series,
            start,
            end,
            limit,
            order,
            include_forming,
            after: None,
        });
        let mut query = violations.finish(query)?;
        query.after = position(&query, &request.page_token)?;
        Ok(query)
    }
}

impl From<BarPage> for pb::GetBarsResponse {
    fn from(page: BarPage) -> Self {
        match page {
            BarPage::Read { query, bars, more } => read(&query, &bars, more),
            // Only `encode` fills the cache; what another version wrote there is no page of ours.
            BarPage::Cached(bytes) => Self::decode(bytes).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ExportBarsRequest> for ExportBars {
    type Error = InvalidFields;

    fn try_from(request: pb::ExportBarsRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let series = violations.series(&request.symbol, request.interval);
        let (start, end) = violations.range(request.start_time, request.end_time);
        let asked = (request.chunk_size != 0).then_some(request.chunk_size);
        let chunk_size = violations.count("chunk_size", asked, DEFAULT_CHUNK_SIZE, MAX_CHUNK_SIZE);
        violations.finish(series.map(|series| Self { series, start, end, chunk_size }))
    }
}

impl From<BarExport> for pb::BarChunk {
    fn from(chunk: BarExport) -> Self {
        let BarExport { series, columns } = chunk;
        Self {
            symbol: series.symbol.to_string(),
            interval: interval(series.interval).into(),
            open_time_ms: columns.open_time_ms,
            open: columns.open,
            high: columns.high,
            low: columns.low,
            close: columns.close,
            volume: columns.volume,
            state: columns.state.into_iter().map(|state| bar_state(state).into()).collect(),
        }
    }
}

/// The page as it goes into the cache.
pub(super) fn encode(page: &BarPage) -> Bytes {
    match page {
        BarPage::Read { query, bars, more } => read(query, bars, *more).encode_to_vec().into(),
        BarPage::Cached(bytes) => bytes.clone(),
    }
}

fn read(query: &GetBars, bars: &[Bar], more: bool) -> pb::GetBarsResponse {
    let last = bars.last().filter(|_| more).map(|last| last.range.open());
    pb::GetBarsResponse {
        bars: bars.iter().map(bar).collect(),
        next_page_token: last.map_or(String::new(), |last| token(query, last)),
        symbol: query.series.symbol.to_string(),
        interval: interval(query.series.interval).into(),
    }
}

fn token(query: &GetBars, last: Timestamp) -> String {
    let binding = query.binding();
    page_token::encode(&binding.each_ref().map(String::as_str), &last.as_millisecond().to_string())
}

fn position(query: &GetBars, token: &str) -> Result<Option<Timestamp>, PageTokenInvalid> {
    let binding = query.binding();
    let position = page_token::decode(&binding.each_ref().map(String::as_str), token)?;
    let time = |text: String| {
        let milliseconds = text.parse().map_err(|_| PageTokenInvalid)?;
        Timestamp::from_millisecond(milliseconds).map_err(|_| PageTokenInvalid)
    };
    position.map(time).transpose()
}

fn order(value: i32) -> Option<BarOrder> {
    Some(match pb::BarOrder::try_from(value).ok()? {
        pb::BarOrder::Unspecified | pb::BarOrder::NewestFirst => BarOrder::NewestFirst,
        pb::BarOrder::OldestFirst => BarOrder::OldestFirst,
    })
}
