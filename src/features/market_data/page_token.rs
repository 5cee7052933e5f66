//! Where a list goes on: opaque to clients, and bound to the query that it came from.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::common::constants::MAX_PAGE_TOKEN_LENGTH;
use crate::common::error::{Coded, ErrorCode};

/// The first byte of every token, so that a later form can be told from this one.
const VERSION: u8 = 1;
/// Bytes of the query's hash that a token carries.
const BINDING: usize = 8;

/// A page token that was not given out for this query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "`page_token` does not belong to this query: repeat the fields of the first request, or leave the token out to start again"
)]
pub struct PageTokenInvalid;

impl Coded for PageTokenInvalid {
    fn code(&self) -> ErrorCode {
        ErrorCode::PageTokenInvalid
    }
}

/// The token for what follows `position` in the answers to `query`.
pub(super) fn encode(query: &[&str], position: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(binding(query));
    bytes.extend(position.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position in `token`, if it was made for `query`; none where there is no token.
pub(super) fn decode(query: &[&str], token: &str) -> Result<Option<String>, PageTokenInvalid> {
    if token.is_empty() {
        return Ok(None);
    }
    if token.len() > MAX_PAGE_TOKEN_LENGTH {
        return Err(PageTokenInvalid);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| PageTokenInvalid)?;
    let (head, position) = bytes.split_at_checked(1 + BINDING).ok_or(PageTokenInvalid)?;
    let (version, bound_to) = head.split_at_checked(1).ok_or(PageTokenInvalid)?;
    if version != [VERSION] || bound_to != binding(query) {
        return Err(PageTokenInvalid);
    }
    String::from_utf8(position.to_vec()).map(Some).map_err(|_| PageTokenInvalid)
}

fn binding(query: &[&str]) -> [u8; BINDING] {
    let mut hash = Sha256::new();
    for part in query {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut bound_to = [0; BINDING];
    for (to, from) in bound_to.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    bound_to
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_goes_on_where_it_was_given_out(a in ".{0,9}", b in ".{0,9}", position in ".{0,40}") {
            let token = encode(&[&a, &b], &position);
            prop_assert_eq!(decode(&[&a, &b], &token), Ok(Some(position)));
            prop_assert_eq!(decode(&[&a, &b, ""], &token), Err(PageTokenInvalid));
            prop_assert_eq!(decode(&[&format!("{a}{b}"), ""], &token).is_ok(), b.is_empty());
        }

        #[test]
        fn what_was_not_given_out_is_refused(token in "\\PC{1,100}") {
            prop_assert_eq!(decode(&["query"], &token), Err(PageTokenInvalid));
        }
    }

    #[test]
    fn without_a_token_a_list_starts() {
        assert_eq!(decode(&["query"], ""), Ok(None));
    }
}
