//! Protobuf to queries, instruments to protobuf.

use super::{GetSymbol, ListSymbols, SymbolPage};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::domain::shared::Symbol;
use crate::domain::symbol::{AROUND_THE_CLOCK, SessionSpec, SymbolInfo};
use crate::features::market_data::ReadError;
use crate::features::market_data::page_token::{self, PageTokenInvalid};
use crate::features::market_data::wire::{ReadFields as _, page_size, timestamp};
use crate::infrastructure::persistence::SymbolFilter;
use crate::proto::v1 as pb;

impl TryFrom<pb::GetSymbolRequest> for GetSymbol {
    type Error = InvalidFields;

    fn try_from(request: pb::GetSymbolRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let symbol = violations.symbol(&request.symbol);
        violations.finish(symbol.map(|symbol| Self { symbol }))
    }
}

impl From<SymbolInfo> for pb::SymbolInfo {
    fn from(info: SymbolInfo) -> Self {
        let (_, session_known) = info.trading_session();
        let said = info.description;
        // Bars are cut as this answer says, so it names the fallback where the session is unknown.
        let fallback = SessionSpec {
            timezone: "Etc/UTC".to_owned(),
            session: AROUND_THE_CLOCK.to_owned(),
            ..SessionSpec::default()
        };
        let session = said.session.filter(|_| session_known).unwrap_or(fallback);
        Self {
            symbol: info.symbol.to_string(),
            name: said.name.unwrap_or_else(|| info.symbol.code().to_owned()),
            description: said.description.unwrap_or_default(),
            asset_type: said.asset_type.unwrap_or_default(),
            currency: said.currency.unwrap_or_default(),
            timezone: session.timezone,
            session: session.session,
            active: info.active,
            create_time: Some(timestamp(info.created_at)),
            update_time: Some(timestamp(info.updated_at)),
            price_scale: said.price_scale.map(Into::into),
            session_known,
        }
    }
}

impl TryFrom<pb::ListSymbolsRequest> for ListSymbols {
    type Error = ReadError;

    fn try_from(request: pb::ListSymbolsRequest) -> Result<Self, ReadError> {
        let mut violations = FieldViolations::default();
        let exchange = violations.exchange(request.exchange);
        let page_size = page_size(&mut violations, request.page_size);
        violations.into_result()?;
        let filter = SymbolFilter { exchange, active: request.active };
        let position = page_token::decode(&binding(&filter), &request.page_token)?;
        let symbol = |text: String| Symbol::parse(&text).map_err(|_| PageTokenInvalid);
        let after = position.map(symbol).transpose()?;
        Ok(Self { filter, page_size, after })
    }
}

impl From<SymbolPage> for pb::ListSymbolsResponse {
    fn from(page: SymbolPage) -> Self {
        let last = page.symbols.last().filter(|_| page.more);
        let next =
            last.map(|info| page_token::encode(&binding(&page.query.filter), info.symbol.as_str()));
        Self {
            next_page_token: next.unwrap_or_default(),
            symbols: page.symbols.into_iter().map(Into::into).collect(),
        }
    }
}

fn binding(filter: &SymbolFilter) -> [&str; 3] {
    let active = match filter.active {
        None => "",
        Some(true) => "active",
        Some(false) => "inactive",
    };
    ["symbols", filter.exchange.as_deref().unwrap_or_default(), active]
}
