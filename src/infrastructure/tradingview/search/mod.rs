//! The symbol directory: pages of at most 50 matches over HTTPS, kept for a while.

mod page;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{HeaderValue, ORIGIN};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use url::Url;

use self::page::Page;
use super::client::TradingView;
use super::config::{ConfigError, TradingViewConfig};
use super::errors;
use crate::infrastructure::http_client::{HttpAnswer, HttpClient, HttpError, HttpRequest};
use crate::infrastructure::interfaces::{
    AssetClass, DirectoryQuery, Phase, ProviderError, SymbolDirectory, SymbolMatch,
};

/// Matches on a page; the next one begins so much further.
const PAGE: usize = 50;
/// Pages of one search.
const MAX_PAGES: usize = 20;
/// Searches that are under way at the same time; others wait.
const AT_ONCE: usize = 4;
/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_mins(5);
/// Matches of all answers that are kept, and answers themselves, together.
const KEPT: u64 = 50_000;
/// Symbols that are suggested in place of one that does not exist, and how long is looked for them.
const SUGGESTIONS: (u32, Duration) = (5, Duration::from_secs(2));

/// Looks symbols up. Cheap to clone; clones share what is kept.
#[derive(Clone)]
pub(super) struct Search {
    http: HttpClient,
    url: Url,
    origin: HeaderValue,
    patience: Duration,
    slots: Arc<Semaphore>,
    known: Cache<DirectoryQuery, Arc<[SymbolMatch]>>,
}

impl Search {
    pub(super) fn new(config: &TradingViewConfig, http: HttpClient) -> Result<Self, ConfigError> {
        let known = Cache::builder()
            .max_capacity(KEPT)
            .weigher(|_, matches: &Arc<[SymbolMatch]>| {
                u32::try_from(matches.len()).unwrap_or(u32::MAX).saturating_add(1)
            })
            .time_to_live(KEPT_FOR)
            .build();
        Ok(Self {
            http,
            url: config.parsed_search_url()?,
            origin: config.origin_header()?,
            patience: config.http_patience(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            known,
        })
    }

    /// What fits `query`; equal questions are asked once at a time, and not again for a while.
    async fn find(&self, query: DirectoryQuery) -> Result<Arc<[SymbolMatch]>, ProviderError> {
        let asked = query.clone();
        let found = self.known.try_get_with(query, Box::pin(self.ask(asked))).await;
        found.map_err(Arc::unwrap_or_clone)
    }

    /// Names symbols that may have been meant, where `error` is about one that does not exist.
    pub(super) async fn suggest(&self, error: ProviderError) -> ProviderError {
        let ProviderError::SymbolNotFound { provider, symbol, suggestions } = error else {
            return error;
        };
        let (limit, patience) = SUGGESTIONS;
        let text = symbol.code().to_owned();
        let query = DirectoryQuery { text, exchange: None, class: None, limit };
        let found = match timeout(patience, self.find(query)).await {
            Ok(Ok(found)) => found,
            // It would have been kind, and is not what was asked for.
            Ok(Err(error)) => {
                debug!(%symbol, %error, "there are no suggestions for {symbol}");
                Arc::default()
            }
            Err(_) => Arc::default(),
        };
        let others = found.iter().filter(|found| found.symbol != symbol);
        let others = others.map(|found| found.symbol.to_string());
        let suggestions = suggestions.into_iter().chain(others).collect();
        ProviderError::SymbolNotFound { provider, symbol, suggestions }
    }

    async fn ask(&self, query: DirectoryQuery) -> Result<Arc<[SymbolMatch]>, ProviderError> {
        let deadline = Instant::now() + self.patience;
        let slot = timeout_at(deadline, self.slots.acquire()).await;
        let _slot = slot.map_err(|_| errors::timeout(Phase::Search, self.patience))?;
        self.pages(&query, deadline).await.map(Arc::from)
    }

    async fn pages(
        &self,
        query: &DirectoryQuery,
        deadline: Instant,
    ) -> Result<Vec<SymbolMatch>, ProviderError> {
        let wanted = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for number in 0..MAX_PAGES {
            let page = self.page(query, number * PAGE, deadline).await?;
            let is_last = page.remaining == 0 || page.rows == 0;
            found.extend(page.matches.into_iter().filter(|each| seen.insert(each.symbol.clone())));
            if is_last || found.len() >= wanted {
                break;
            }
        }
        found.truncate(wanted);
        Ok(found)
    }

    async fn page(
        &self,
        query: &DirectoryQuery,
        start: usize,
        deadline: Instant,
    ) -> Result<Page, ProviderError> {
        let mut url = self.url.clone();
        let (exchange, text) = exchange_and_text(query);
        url.query_pairs_mut()
            .append_pair("text", text)
            // Hits are not to be marked; what is marked all the same is unmarked.
            .append_pair("hl", "0")
            .append_pair("exchange", exchange)
            .append_pair("lang", "en")
            .append_pair("search_type", query.class.map_or("undefined", search_type))
            .append_pair("start", &start.to_string())
            .append_pair("domain", "production")
            .append_pair("sort_by_country", "US");
        let request = HttpRequest::get(url).header(ORIGIN, self.origin.clone()).by(deadline);
        let answer = self.http.send(request).await.and_then(HttpAnswer::successful);
        let page = answer.and_then(|answer| {
            let malformed = || HttpError::Malformed {
                host: answer.host.clone(),
                expected: "a page of symbols",
            };
            page::read(&answer.json()?).ok_or_else(malformed)
        });
        page.map_err(|error| errors::http_error(&error, Phase::Search, self.patience))
    }
}

impl SymbolDirectory for TradingView {
    fn search(
        &self,
        query: DirectoryQuery,
    ) -> BoxFuture<'_, Result<Vec<SymbolMatch>, ProviderError>> {
        async move { Ok(self.directory().find(query).await?.to_vec()) }.boxed()
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// The directory takes no `EXCHANGE:CODE`: it wants the two apart.
fn exchange_and_text(query: &DirectoryQuery) -> (&str, &str) {
    match (&query.exchange, query.text.split_once(':')) {
        (Some(exchange), _) => (exchange, query.text.as_str()),
        (None, Some((exchange, text))) => (exchange.trim(), text.trim()),
        (None, None) => ("", query.text.as_str()),
    }
}

const fn search_type(class: AssetClass) -> &'static str {
    match class {
        AssetClass::Stock => "stocks",
        AssetClass::Fund => "funds",
        AssetClass::Futures => "futures",
        AssetClass::Forex => "forex",
        AssetClass::Crypto => "crypto",
        AssetClass::Index => "index",
        AssetClass::Bond => "bond",
        AssetClass::Economic => "economic",
    }
}
