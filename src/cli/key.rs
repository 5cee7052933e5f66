//! `--idempotency-key`: what makes it safe to send a command again.

use clap::Args;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::failure::UsageMistake;
use crate::common::constants::HEADER_IDEMPOTENCY_KEY;
use crate::common::idempotency::IdempotencyKey;

/// The key of a command.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct KeyOption {
    /// Carry the command out once, however often it is sent with this key within a day; with
    /// several symbols, the key of each is KEY:SYMBOL
    #[arg(long = "idempotency-key", value_name = "KEY", value_parser = parse)]
    key: Option<IdempotencyKey>,
}

impl KeyOption {
    /// The key of a command's only call.
    pub(super) fn whole(&self) -> CallKey {
        CallKey(self.key.as_ref().and_then(|key| key.as_str().parse().ok()))
    }

    /// The key of the call for one of `symbols`, for each. Refuses one that becomes too long.
    pub(super) fn each(&self, symbols: &[String]) -> Result<Vec<CallKey>, UsageMistake> {
        let [_, _, ..] = symbols else { return Ok(vec![self.whole(); symbols.len()]) };
        let of = |symbol: &String| match &self.key {
            None => Ok(CallKey::default()),
            Some(key) => {
                let text = format!("{key}:{symbol}");
                let key = parse(&text).map_err(|error| {
                    UsageMistake(format!("the idempotency key `{text}` {error}"))
                })?;
                Ok(CallKey(key.as_str().parse().ok()))
            }
        };
        symbols.iter().map(of).collect()
    }
}

fn parse(text: &str) -> Result<IdempotencyKey, String> {
    IdempotencyKey::parse(text.as_bytes()).map_err(|error| error.to_string())
}

/// The key of one call, if it has one.
#[derive(Clone, Debug, Default)]
pub(super) struct CallKey(Option<MetadataValue<Ascii>>);

impl CallKey {
    /// `request` with the key.
    pub(super) fn on<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert(HEADER_IDEMPOTENCY_KEY, key.clone());
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: &str, symbols: &[&str]) -> Result<Vec<String>, UsageMistake> {
        let option = KeyOption { key: Some(parse(key).unwrap()) };
        let symbols: Vec<String> = symbols.iter().map(|&symbol| symbol.to_owned()).collect();
        let text = |key: CallKey| {
            let request = key.on(Request::new(()));
            let value = request.metadata().get(HEADER_IDEMPOTENCY_KEY).unwrap();
            value.to_str().unwrap().to_owned()
        };
        Ok(option.each(&symbols)?.into_iter().map(text).collect())
    }

    #[test]
    fn a_call_has_the_key_as_it_is_and_each_of_several_its_own() {
        assert_eq!(keys("k 1", &["A:B"]).unwrap(), ["k 1"]);
        assert_eq!(keys("k", &["A:B", "A:C"]).unwrap(), ["k:A:B", "k:A:C"]);
        assert!(keys(&"k".repeat(254), &["A:B", "A:C"]).is_err());
    }
}
