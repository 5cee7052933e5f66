//! What the provider's socket for quotes may bring, in its frames.

use super::message::{self, Incoming};
use crate::domain::quote::Field;
use crate::fuzz::hold;

#[test]
fn quote_messages() {
    hold!("quote_messages", |input: &[u8]| {
        let json = String::from_utf8_lossy(input);
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok();
        let read = message::parse(&json);
        assert!(is_json || read.is_err(), "{json}");
        let Ok(Incoming::Quote { session, quote }) = read else { return };
        assert!(session.len() + quote.name.len() + quote.status.len() <= json.len());
        let update = &quote.update;
        for value in [update.last_price, update.volume, update.bid, update.ask, update.change] {
            assert!(!matches!(value, Field::Set(value) if !value.is_finite()), "{json}");
        }
    });
}
