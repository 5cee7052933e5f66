//! Protobuf to queries, instruments to protobuf.

use super::{
    DeleteSymbol, GetSymbol, ListSymbols, SearchSymbols, SymbolMatches, SymbolPage, UpdateSymbol,
};
use crate::common::constants::{
    DEFAULT_SEARCH_LIMIT, MAX_CUSTOM_LENGTHS, MAX_SEARCH_LIMIT, MAX_SEARCH_QUERY_LENGTH,
};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::domain::shared::Symbol;
use crate::domain::symbol::{
    AROUND_THE_CLOCK, CustomFields, SessionSpec, SymbolChange, SymbolInfo,
};
use crate::features::market_data::ReadError;
use crate::features::market_data::page_token::{self, PageTokenInvalid};
use crate::features::market_data::wire::{ReadFields as _, page_size, timestamp};
use crate::infrastructure::interfaces::{AssetClass, DirectoryQuery};
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
        let custom_fields = custom_fields(&info.custom);
        let name = info.name().unwrap_or_else(|| info.symbol.code()).to_owned();
        let description = info.full_name().unwrap_or_default().to_owned();
        let asset_type = info.asset_type().unwrap_or_default().to_owned();
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
            name,
            description,
            asset_type,
            currency: said.currency.unwrap_or_default(),
            timezone: session.timezone,
            session: session.session,
            active: info.active,
            create_time: Some(timestamp(info.created_at)),
            update_time: Some(timestamp(info.updated_at)),
            price_scale: said.price_scale.map(Into::into),
            session_known,
            custom_fields,
        }
    }
}

fn custom_fields(custom: &CustomFields) -> Vec<String> {
    let fields = [
        ("name", &custom.name),
        ("description", &custom.description),
        ("asset_type", &custom.asset_type),
    ];
    fields.into_iter().filter(|field| field.1.is_some()).map(|field| field.0.to_owned()).collect()
}

impl TryFrom<pb::UpdateSymbolRequest> for UpdateSymbol {
    type Error = InvalidFields;

    fn try_from(request: pb::UpdateSymbolRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let symbol = violations.symbol(&request.symbol);
        let (name, description, asset_type) = MAX_CUSTOM_LENGTHS;
        let change = SymbolChange {
            name: text(&mut violations, "name", request.name, name),
            description: text(&mut violations, "description", request.description, description),
            asset_type: text(&mut violations, "asset_type", request.asset_type, asset_type),
            active: request.active,
        };
        violations.finish(symbol.map(|symbol| Self { symbol, change }))
    }
}

/// A line of text, at most `most` characters, without space around it.
fn text(
    violations: &mut FieldViolations,
    field: &str,
    value: Option<String>,
    most: usize,
) -> Option<String> {
    let text = value?.trim().to_owned();
    if text.chars().count() > most || text.chars().any(char::is_control) {
        violations.push(field, format!("must be one line of at most {most} characters"));
    }
    Some(text)
}

impl TryFrom<pb::DeleteSymbolRequest> for DeleteSymbol {
    type Error = InvalidFields;

    fn try_from(request: pb::DeleteSymbolRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let symbol = violations.symbol(&request.symbol);
        let delete_bars = request.delete_bars;
        violations.finish(symbol.map(|symbol| Self { symbol, delete_bars }))
    }
}

impl TryFrom<pb::SearchSymbolsRequest> for SearchSymbols {
    type Error = InvalidFields;

    fn try_from(request: pb::SearchSymbolsRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let query = text(&mut violations, "query", Some(request.query), MAX_SEARCH_QUERY_LENGTH);
        let query = query.filter(|query| !query.is_empty());
        let query = violations.require("query", query);
        let exchange = violations.exchange(request.exchange);
        let class = request.r#type.and_then(|name| class(&mut violations, &name));
        let (default, most) = (DEFAULT_SEARCH_LIMIT, MAX_SEARCH_LIMIT);
        let limit = violations.count("limit", request.limit, default, most);
        violations.finish(query.map(|text| Self(DirectoryQuery { text, exchange, class, limit })))
    }
}

fn class(violations: &mut FieldViolations, name: &str) -> Option<AssetClass> {
    let class = AssetClass::named(name);
    if class.is_none() {
        let names = AssetClass::ALL.map(AssetClass::as_str).join(", ");
        violations.push("type", format!("must be one of {names}"));
    }
    class
}

impl From<SymbolMatches> for pb::SearchSymbolsResponse {
    fn from(matches: SymbolMatches) -> Self {
        let matches = matches.0.into_iter().map(|found| pb::SymbolMatch {
            symbol: found.symbol.to_string(),
            description: found.description,
            asset_type: found.asset_type,
            currency: found.currency,
            exchange_name: found.exchange_name,
            country: found.country,
        });
        Self { matches: matches.collect() }
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
