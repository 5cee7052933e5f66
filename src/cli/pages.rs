//! Reads stored bars page by page.

use super::client::Client;
use super::failure::CallError;
use crate::common::constants::MAX_BARS_LIMIT;
use crate::proto::v1::{Bar, GetBarsRequest};

/// The pages of a query, `left` bars at most.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    client: &'a Client,
    request: GetBarsRequest,
    left: Option<u64>,
    ended: bool,
    ready: Option<Vec<Bar>>,
}

impl<'a> Pages<'a> {
    /// The first `most` bars of the query, or all; its limit and token are this reader's.
    pub(super) const fn new(
        client: &'a Client,
        request: GetBarsRequest,
        most: Option<u64>,
    ) -> Self {
        Self { client, request, left: most, ended: matches!(most, Some(0)), ready: None }
    }

    /// One page, which is there already.
    pub(super) fn ready(client: &'a Client, bars: Vec<Bar>) -> Self {
        let request = GetBarsRequest::default();
        Self { client, request, left: None, ended: true, ready: Some(bars) }
    }

    /// The next page; nothing after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Bar>>, CallError> {
        if let Some(bars) = self.ready.take() {
            return Ok(Some(bars));
        }
        if self.ended {
            return Ok(None);
        }
        // Constant over all pages: a token belongs to the query that it came from.
        let left = self.left;
        self.request.limit.get_or_insert_with(|| page_limit(left));
        let request = self.client.request(self.request.clone());
        let page = self.client.answer(self.client.market_data().get_bars(request)).await?;
        let mut bars = page.bars;
        if let Some(left) = &mut self.left {
            bars.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left = left.saturating_sub(u64::try_from(bars.len()).unwrap_or(u64::MAX));
        }
        self.ended = page.next_page_token.is_empty() || self.left == Some(0);
        self.request.page_token = page.next_page_token;
        Ok(Some(bars))
    }
}

fn page_limit(most: Option<u64>) -> i32 {
    let wanted = most.and_then(|most| i32::try_from(most).ok()).unwrap_or(MAX_BARS_LIMIT);
    wanted.min(MAX_BARS_LIMIT)
}
